"""Memory that is free is given back to the system.

glibc keeps what was freed: blocks of up to 32 MB come from its heaps, which shrink at their ends only, and what is in
between waits for a block that fits. Pictures of changing sizes leave many such holes: in ComfyUI, 0.6 of 1.55 GB after
40 of them, which are 0.97 GB where they are given back (scripts/soak --in_process). Nothing is lost, the next picture
takes from there; but a service seems to grow.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

Arguments, Result = ParamSpec("Arguments"), TypeVar("Result")

# Bytes that the process may grow by before free memory is looked for: looking costs about as much as clearing what is
# then taken anew, 0.1 s for 600 MB, so it is not done after every picture.
MOST_KEPT = 200_000_000

_held_after_last = 0


def give_back_memory() -> bool:
    """Return free memory to the system where the process has grown since the last time; whether that was done.

    On Linux with glibc. Elsewhere it does nothing: other allocators give back by themselves.
    """
    global _held_after_last
    trim = _malloc_trim()
    if trim is None:
        return False
    held = resident_memory()
    # Where models were unloaded in the meantime, growth counts from there.
    _held_after_last = min(_held_after_last, held)
    if held - _held_after_last < MOST_KEPT:
        return False
    trim(0)
    _held_after_last = resident_memory()
    return True


def gives_back_memory(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator for large work: at its end, however it ends, free memory is given back."""

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        finally:
            give_back_memory()

    return wrapped


def resident_memory() -> int:
    """Bytes of physical memory that this process holds (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@functools.lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None where there is none (musl, macOS, Windows)."""
    if sys.platform != "linux" or not Path("/proc/self/statm").is_file():
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
