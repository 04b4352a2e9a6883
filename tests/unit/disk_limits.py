"""Disks that fail, for the tests of everything that writes files."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def full_disk_after(size: int) -> Iterator[None]:
    """Writes past `size` bytes of a file fail inside the operating system, as on a full disk (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system of its own at `folder` ("size=64k", "ro"); the test skips where that is not allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root on Linux")
    try:
        yield
    finally:
        vanish(folder)


def vanish(folder: Path) -> None:
    """Take a file system of `mounted` away, if it is there, though somebody may still have a file of it open."""
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True)


def make_room(folder: Path, size: str) -> None:
    """Make a file system of `mounted` larger."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def names_in(folder: Path) -> list[str]:
    """All files of a folder, hidden ones too: what a failed write left behind."""
    return sorted(path.name for path in folder.iterdir())
