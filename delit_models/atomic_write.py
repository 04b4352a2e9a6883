"""Write a file completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DelitError


@contextmanager
def atomic_write(path: str | os.PathLike, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary name beside `path` (same folder, same suffix) to write to; on success it takes the
    place of `path` in one step, on any failure it is removed and `path` stays as it was.

    Missing folders are made. What was written is on the disk before it gets its name, so that a power cut leaves no
    empty file under it.
    Raises DelitError for a folder that cannot be written to, for a file that is there and may not be
    overwritten, and, in place of the OSError of the body, for a disk that is full.
    """
    target = Path(path)
    if target.is_dir():
        raise DelitError(f"Cannot write {target}: it is a folder. Give a file name in it.")
    if target.exists() and not overwrite:
        raise DelitError(f"{target} is already there. Choose another name or allow overwriting.")
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem[:40]}.", suffix=target.suffix, dir=target.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # Windows synchronises only what is open for writing.
        with open(temporary, "r+b") as written:
            os.fsync(written.fileno())
        temporary.chmod(_default_mode())
        os.replace(temporary, target)
    except OSError as error:
        raise DelitError(
            f"Cannot write {target}: {error.strerror or error}. Nothing was written; check that the folder "
            "exists, that you may write to it and that its disk is not full."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _default_mode() -> int:
    """The permissions an ordinarily created file would get (mkstemp's are for the owner alone)."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
