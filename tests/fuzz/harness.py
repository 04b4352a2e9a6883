"""Throwing generated cases at Delit and judging what becomes of each.

A case either works, and what it made is sound, or it is refused with a DelitError that says why in one line. Anything
else is a fault: another exception, a crash, a picture that is black or holds NaN, a file half written, lost or
overwritten, memory taken for what a header merely promises, or minutes of work for a few bytes.
"""

from __future__ import annotations

import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from delit_models.errors import DelitError

REPOSITORY = Path(__file__).resolve().parents[2]
# A still of a few hundred pixels or a damaged small file has no business with more.
MOST_MEMORY = 1000  # MB above what there was before the case
MOST_SECONDS = 20.0  # of the processor's time
MOST_WAITING = 400  # seconds on the clock, on a busy machine; then the worker ends with SIGALRM
LONGEST_MESSAGE = 1500
# Past this is a file name with the whole of a message in it, or the like.
_OURS = ("delit_models", "training", "nodes")


class Fault(AssertionError):
    """What must not come of a case."""


@dataclass(frozen=True)
class Case:
    """Something to try.

    Attributes:
        name: what it is, for people; enough to make it again by hand.
        act: does it in an empty folder, and raises Fault where what comes of it is unsound.
    """

    name: str
    act: Callable[[Path], None]


@dataclass(frozen=True)
class Kind:
    """One kind of input: its name, its cases, and how many a full and a short run throw."""

    name: str
    cases: SearchStrategy[Case]
    full: int
    short: int


@dataclass
class Tally:
    """What became of a kind's cases: how many worked and were refused; and each fault once, with its first case."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)


def throw(
    kind: Kind, number: int, seed_number: int, before: Callable[[Case], None] = lambda case: None
) -> Tally:
    """Throw `number` cases of a kind; the same seed throws the same ones. `before` is told of each."""
    tally = Tally()

    @seed(seed_number)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.cases)
    def one(case: Case) -> None:
        before(case)
        outcome, fault = judge(case)
        tally.outcomes[outcome] += 1
        if fault:
            tally.faults.setdefault(fault, case.name)

    one()
    return tally


def judge(case: Case) -> tuple[str, str | None]:
    """Try a case: “worked”, “refused” or “fault”, and which fault."""
    with tempfile.TemporaryDirectory(prefix="delit-fuzz-") as folder:
        memory, start = _start_of_peak(), time.process_time()
        outcome, fault = "worked", None
        try:
            case.act(Path(folder))
        except DelitError as error:
            outcome, fault = "refused", _unclear(str(error))
        except Fault as error:
            fault = str(error)
        except (Exception, SystemExit) as error:
            fault = _where(error)
        if fault is None:
            fault = _wasteful(_peak() - memory, time.process_time() - start)
    return ("fault", fault) if fault else (outcome, None)


def _unclear(message: str) -> str | None:
    if len(message) < 15 or "Traceback" in message:
        return f"a message that says nothing: {message!r}"
    return (
        f"a message of {len(message)} letters: {message[:200]}…" if len(message) > LONGEST_MESSAGE else None
    )


def _wasteful(memory: float, seconds: float) -> str | None:
    if memory > MOST_MEMORY:
        return f"it took over {MOST_MEMORY} MB"
    return f"it took over {MOST_SECONDS:.0f} s" if seconds > MOST_SECONDS else None


def _where(error: BaseException) -> str:
    """The exception and the last line of Delit's own that it came through: what makes two faults the same one."""
    own = [
        f"{Path(frame.filename).relative_to(REPOSITORY)}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if any(f"{REPOSITORY}/{part}/" in frame.filename for part in _OURS)
    ]
    place = own[-1] if own else "the harness itself: " + traceback.format_exc(limit=-3)
    return f"{type(error).__name__} in {place}: {' '.join(str(error).split())[:160]}"


def _start_of_peak() -> float:
    """Resident memory in MB; from now on `_peak` counts (Linux; elsewhere both are 0)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0.0
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith(f"{name}:")), 0.0)


def files_below(folder: Path) -> dict[str, bytes]:
    """All files of a folder, hidden ones too, with what is in them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
