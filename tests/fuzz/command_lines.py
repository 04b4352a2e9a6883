"""Running a command line in a folder, in this process, and judging how it ends.

A command ends with status 0, with 2 and argparse's usage, or with 1 and one line that begins with ✗ (the generator's
with “error:”, and verify_modules' last one says how many parts do not work).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from delit_models.errors import DelitError

from .harness import Fault

_REFUSALS = ("✗", "error:")
_PARTS_FAILED = re.compile(r"\d+ of \d+ parts do not work: ")


def put_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their names below a folder, all of the same age: what a run goes on from has stamps of them."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1, 1))


def run_line(
    words: list[str], start: Callable[[], int | None], folder: Path, check: Callable[[], None]
) -> None:
    """Run a command in a folder: `start` does it and may give its status. `check` judges what is in the folder,
    whatever became of the command. Raises DelitError where the command refuses, Fault where it ends otherwise."""
    told, printed = io.StringIO(), io.TextIOWrapper(io.BytesIO(), "utf-8", "replace", write_through=True)
    try:
        with at(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(told):
            sys.argv = words
            status = start()
            if status:
                raise SystemExit(status)
    except SystemExit as end:
        # What verify_modules finds is its result, and printed.
        _check_end(end.code, told.getvalue() or printed.buffer.getvalue().decode())
    finally:
        check()
    if "✗" in told.getvalue():
        raise DelitError(next(line for line in told.getvalue().splitlines() if "✗" in line))


def _check_end(status: object, told: str) -> None:
    lines = [line for line in told.splitlines() if line.strip()]
    if not lines:
        raise Fault(f"a command ended with status {status} and said nothing")
    if status == 2 and "error:" in lines[-1]:
        raise DelitError(lines[-1])
    # A progress bar may stand before it.
    refusal = lines[-1].split("\r")[-1].lstrip()
    if status != 1 or not (refusal.startswith(_REFUSALS) or _PARTS_FAILED.match(refusal)):
        raise Fault(f"a command ended with status {status} and said {lines[-2:]}")
    if not refusal.startswith("✗"):
        raise DelitError(refusal)


@contextlib.contextmanager
def at(folder: Path) -> Iterator[None]:
    """With a folder as the working one; `sys.argv` is put back, too."""
    place, kept = Path.cwd(), sys.argv
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(place)
        sys.argv = kept
