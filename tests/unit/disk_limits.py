"""Disks that fail, for the tests of everything that writes files."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def full_disk_after(size: int) -> Iterator[None]:
    """Writes past `size` bytes of a file fail inside the operating system, as on a full disk (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names_in(folder: Path) -> list[str]:
    """All files of a folder, hidden ones too: what a failed write left behind."""
    return sorted(path.name for path in folder.iterdir())
