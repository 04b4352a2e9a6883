"""What every command of this package does the same way."""

from __future__ import annotations

import argparse
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
    except DelitError as error:
        print(f"✗ {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


def choose_device(name: str | None) -> torch.device:
    """The named device, or the best there is. Raises DelitError if it is not there."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DelitError(f"The device {name} cannot be used ({reason}). Try --device cpu.") from error
    return device
