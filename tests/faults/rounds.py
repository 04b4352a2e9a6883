"""A round: a job is started, killed, perhaps started and killed again, and then let go on to its end."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .jobs import Job
from .victims import NEVER, Ending, Moment, run_victim

# A later start is killed as well in so many rounds.
_KILLED_AGAIN = 0.4
# Times are drawn a little past the end of an unbroken run.
_PAST_THE_END = 1.05
_PATIENCE = 600.0  # seconds
_SHOWN = 1500  # characters of a log


@dataclass
class Tally:
    """What came of some rounds: how many there were, how many kills met a living process, and the faults."""

    rounds: int = 0
    kills: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Unbroken:
    """A run that nobody killed: its folder, processor seconds and changes of files."""

    folder: Path
    seconds: float
    changes: int


def play(
    name: str,
    job: Job,
    folder: Path,
    rounds: range,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> Tally:
    """Play rounds of a job in a folder. A round depends on the seed and its number alone (and on the moment that its
    processor time really brings).

    The folder of a round without a fault is removed; the others are left to be looked at.
    """
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    job.prepare(inputs)
    unbroken = _unbroken_run(job, inputs, folder)
    tell(
        f"{name}: an unbroken run takes {unbroken.seconds:.2f} s of processor time and changes files "
        f"{unbroken.changes} times"
    )
    tally = Tally()
    for number in rounds:
        own = folder / f"round{number}"
        own.mkdir()
        faults = list(
            _faults_of_round(job, inputs, own, unbroken, random.Random(f"{seed} {name} {number}"), tally)
        )
        tally.rounds += 1
        for fault in faults:
            tally.faults.append(f"{name}, round {number}: {fault}")
            tell(f"✗ {tally.faults[-1]}")
        if not faults:
            shutil.rmtree(own)
    return tally


def _unbroken_run(job: Job, inputs: Path, folder: Path) -> Unbroken:
    own = folder / "unbroken"
    own.mkdir()
    ending = run_victim(job.command(inputs, own), own, folder / "unbroken.log", NEVER, _PATIENCE)
    if ending.status:
        raise RuntimeError(f"The unbroken run failed:\n{ending.log[-_SHOWN:]}")
    return Unbroken(own, ending.seconds, ending.changes)


def _faults_of_round(
    job: Job, inputs: Path, folder: Path, unbroken: Unbroken, chance: random.Random, tally: Tally
) -> Iterator[str]:
    log = folder.with_suffix(".log")
    moments = [_drawn_moment(chance, unbroken)]
    if chance.random() < _KILLED_AGAIN:
        moments.append(_drawn_moment(chance, unbroken))
    for moment in (*moments, NEVER):
        if job.is_done(folder):
            break
        before = {file: file.stat().st_mtime_ns for file in job.finished(inputs, folder)}
        word = job.word_of_going_on(folder)
        try:
            ending = run_victim(job.command(inputs, folder), folder, log, moment, _PATIENCE)
        except TimeoutError as error:
            yield f"the start to be killed {moment}: {error}: {log.read_text()[-_SHOWN:]}"
            return
        tally.kills += ending.killed
        after = f"after kills {', '.join(map(str, moments))}: "
        if not ending.killed and ending.status:
            yield after + f"a start ended with status {ending.status}: {_last_lines(ending)}"
            return
        if ending.outlived:
            yield after + "processes that it had started lived on"
        if word and not ending.killed and word not in ending.log:
            yield after + f"a start did not go on from what was there: {_last_lines(ending)}"
        for file, written in before.items():
            if not file.is_file() or file.stat().st_mtime_ns != written:
                yield after + f"{file.relative_to(folder)} was finished, and was made again"
        if ending.killed:
            yield from (after + told for told in job.broken_promises(inputs, folder))
    told_of = job.not_as_unbroken(inputs, folder, unbroken.folder)
    yield from (f"after kills {', '.join(map(str, moments))}: {told}" for told in told_of)
    log.unlink(missing_ok=True)


def _drawn_moment(chance: random.Random, unbroken: Unbroken) -> Moment:
    if chance.random() < 0.5:
        return Moment(change=chance.randint(1, unbroken.changes))
    return Moment(seconds=chance.uniform(0, _PAST_THE_END * unbroken.seconds))


def _last_lines(ending: Ending) -> str:
    return " / ".join(ending.log.strip().splitlines()[-4:])[-_SHOWN:]
