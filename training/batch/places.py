"""Where files lie: on a disk, or in an object store under an address such as s3://bucket/folder.

A place is a `pathlib.Path`, or for an address a `upath.UPath` (universal_pathlib, over fsspec), which has the same
methods. `fetched` and `stored` make a file on a disk of it for what reads and writes only those.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delit_models.errors import DelitError
from delit_models.presence import is_folder

# Where a file is there whole once it is there: a put has no half. Elsewhere (sftp, hdfs, file…) it gets its name last.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "r2", "memory"}
# What a store says of a file that changes when its content does, the best first.
_STATES = (
    "ETag",
    "etag",
    "md5Hash",
    "md5",
    "content_md5",
    "mtime",
    "LastModified",
    "last_modified",
    "created",
)


def place_of(name: str) -> Path:
    """The place of a path or an address.

    Raises:
        DelitError: for an address of a kind that nothing installed here reads; says what to install.
    """
    if "://" not in name:
        return Path(name)
    try:
        from upath import UPath
    except ImportError as error:
        raise DelitError(
            f"{name} is an address, and universal_pathlib, which reads those, is not installed: "
            "pip install universal_pathlib"
        ) from error
    try:
        place = UPath(name)
        # Asked for now, so that a missing package is told before any work.
        _ = place.fs
    except (ImportError, ValueError) as error:
        raise DelitError(f"{name} cannot be reached: {error}") from error
    return place


def seen_from_anywhere(name: str) -> str:
    """The name of a file for a process that runs in another folder."""
    return name if "://" in name else str(Path(name).resolve())


def is_remote(place: Path) -> bool:
    """Whether it is an address rather than a path."""
    return not isinstance(place, Path)


def names_in(folder: Path) -> set[str]:
    """Names of the files in a folder; none where the folder is not there."""
    with _told(folder):
        if not is_remote(folder):
            if not is_folder(folder):
                return set()
            with os.scandir(folder) as entries:
                return {entry.name for entry in entries if entry.is_file()}
        folder.fs.invalidate_cache()
        try:
            entries = folder.fs.ls(folder.path, detail=True)
        except FileNotFoundError:
            return set()
        return {entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file"}


def state_of(place: Path) -> str:
    """What changes when a file does: its size and time, or what its store says of its content."""
    with _told(place):
        if not is_remote(place):
            state = place.stat()
            return f"{state.st_size} {state.st_mtime_ns}"
        info = place.fs.info(place.path)
    known = next((str(info[key]) for key in _STATES if info.get(key) is not None), "")
    return f"{info.get('size')} {known}"


@contextmanager
def fetched(place: Path) -> Iterator[Path]:
    """The file on a disk: itself, or a copy that is there for as long."""
    if not is_remote(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="delit_") as folder:
        copy = Path(folder) / place.name
        with _told(place):
            place.fs.get_file(place.path, str(copy))
        yield copy


@contextmanager
def stored(place: Path) -> Iterator[Path]:
    """A path on a disk to write a file to, which then is at `place`, whole or not at all. Where the place is on a disk
    it is the path: whoever writes there is to write atomically."""
    if not is_remote(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="delit_") as folder:
        copy = Path(folder) / place.name
        yield copy
        with _told(place):
            _put(copy, place)


def _put(file: Path, place: Path) -> None:
    if place.protocol in OBJECT_STORES:
        place.fs.put_file(str(file), place.path)
        return
    place.fs.makedirs(place.parent.path, exist_ok=True)
    waiting = f"{place.parent.path}/.{uuid.uuid4().hex}{place.suffix}"
    try:
        place.fs.put_file(str(file), waiting)
        place.fs.mv(waiting, place.path)
    finally:
        if place.fs.exists(waiting):
            place.fs.rm_file(waiting)


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """What goes wrong with a store or a disk, as one line. Stores raise errors of their own kinds."""
    try:
        yield
    except DelitError:
        raise
    except FileNotFoundError as error:
        raise DelitError(f"There is no file {place}. Check the address and its spelling.") from error
    except Exception as error:
        raise DelitError(
            f"{place} cannot be reached ({type(error).__name__}: {' '.join(str(error).split())[:200]}). Check the "
            "address, the rights to it and the connection."
        ) from error
