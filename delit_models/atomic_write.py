"""Write a file completely or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DelitError
from .presence import mode_of

_LONGEST_STEM = 40
# Windows refuses to replace a file that somebody has open, such as a viewer, a virus scanner or a reader of ours; most
# have it open for a moment only.
_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds


def check_name(path: Path) -> None:
    """Raise DelitError for a path with bytes that are no text (Linux allows them): the libraries that read and write
    pictures take text."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        told = str(path).encode(errors="backslashreplace").decode()
        raise DelitError(f"{told} is no name in UTF-8. Give the file or folder another name.") from error


@contextmanager
def atomic_write(path: str | os.PathLike, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary name beside `path` (same folder, same suffix, hidden) to write to; on success it takes the
    place of `path` in one step, on any failure it is removed and `path` stays as it was.

    Missing folders are made. What was written is on the disk before it gets its name, so that a power cut leaves no
    empty file under it. A process that is killed leaves the hidden file; `remove_unfinished` is for those.
    Raises DelitError for a folder that cannot be written to, for a file that is there and may not be
    overwritten, and, in place of the OSError of the body, for a disk that is full.
    """
    target = Path(path)
    check_name(target)
    temporary = None
    try:
        mode = mode_of(target)
        if mode is not None and stat.S_ISDIR(mode):
            raise DelitError(f"Cannot write {target}: it is a folder. Give a file name in it.")
        if mode is not None and not overwrite:
            raise DelitError(f"{target} is already there. Choose another name or allow overwriting.")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_prefix(target), suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # Windows synchronises only what is open for writing.
        with open(temporary, "r+b") as written:
            os.fsync(written.fileno())
        temporary.chmod(_default_mode())
        replace_file(temporary, target)
    except OSError as error:
        raise DelitError(
            f"Cannot write {target}: {error.strerror or error}. Nothing was written; check that the folder "
            "exists, that you may write to it and that its disk is not full."
        ) from error
    finally:
        if temporary is not None:
            # A disk that has gone takes nothing back, and its own error is the one to tell.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def replace_file(source: Path, target: Path) -> None:
    """`os.replace`, which waits a while for one who has the target open where the system asks for that (Windows)."""
    for wait in _WAITS:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(wait)
    os.replace(source, target)


def remove_unfinished(targets: Iterable[Path]) -> None:
    """Remove what killed processes had begun to write in place of these files.

    Only for files that nobody else is writing now: another process's write would fail.
    """
    by_folder: dict[Path, set[tuple[str, str]]] = {}
    for target in targets:
        by_folder.setdefault(target.parent, set()).add((_prefix(target), target.suffix))
    for folder, names in by_folder.items():
        for file in folder.glob(".*"):
            if any(file.name.startswith(prefix) and file.suffix == suffix for prefix, suffix in names):
                file.unlink(missing_ok=True)


def is_hidden(path: str | os.PathLike) -> bool:
    """Whether a file is nobody's picture or result: what `atomic_write` has not finished, or what macOS notes beside a
    file on disks of other systems (`._portrait.jpg`)."""
    return os.path.basename(path).startswith(".")


def check_folder(folder: str | os.PathLike) -> None:
    """Make a folder and try to write to it, before the work whose results go there.

    Raises DelitError where it cannot be made or takes no file.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix=".", dir=folder) as probe:
            probe.write(b"\0")
    except OSError as error:
        raise DelitError(
            f"Cannot write to {folder}: {error.strerror or error}. Check that it is a folder, that you may write to it "
            "and that its disk is not full."
        ) from error


def _prefix(target: Path) -> str:
    return f".{target.stem[:_LONGEST_STEM]}."


def _default_mode() -> int:
    """The permissions an ordinarily created file would get (mkstemp's are for the owner alone)."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
