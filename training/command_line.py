"""What every command of this package does the same way."""

from __future__ import annotations

import argparse
import errno
import logging
import sys
from collections.abc import Callable

import torch

from delit_models.errors import DelitError


def run_command(command: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    """Run a command; what the user can mend ends it with one line on standard error and exit status 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        command(arguments)
    except Exception as error:
        told = refusal(error)
        if told is None:
            raise
        print(f"✗ {told}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


def refusal(error: Exception) -> str | None:
    """What to tell of an error that the user can mend, in one line: our own, a disk's, or memory that ran out. None for
    any other, whose traceback is wanted."""
    if isinstance(error, DelitError):
        return " ".join(str(error).split())
    if _is_out_of_memory(error):
        return (
            f"Memory ran out ({_first_line(error)}). What was finished before is kept. Take less at once: smaller "
            "pictures, a smaller batch or working size, fewer workers."
        )
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return (
            f"{place}{error.strerror or _first_line(error)}. What was finished before is kept. Check that the disk is "
            "there, that it is not full, and that you may read and write there."
        )
    return None


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # torch has no class of its own for the processor's memory, and not in all versions one for a GPU's.
    told = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in told or "allocate memory" in told)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def choose_device(name: str | None) -> torch.device:
    """The named device, or the best there is. Raises DelitError if it is not there."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DelitError(f"The device {name} cannot be used ({reason}). Try --device cpu.") from error
    return device
