"""Processes to be killed: a command of the project, forked from a server that has imported everything already, and
ended with kill -9 at a moment that was drawn before.

There are two kinds of moments. One is a time, counted in the process's own processor time, so that a busy machine moves
it nowhere. The other is the nth thing that the process does to its files: opening one for writing, renaming, removing,
making a folder. Random times rarely fall between two of these; that is where work gets lost.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

# Python tells of these before it does them.
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_LOOK_EVERY = 0.003  # seconds
_LONGEST_LIFE = 20.0  # seconds that a killed process's own processes may outlive it
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Command:
    """`python -m module arguments…`."""

    module: str
    arguments: Sequence[str]


@dataclass(frozen=True)
class Moment:
    """When to kill: after so many seconds of processor time, or before the nth change of a file; or never."""

    seconds: float | None = None
    change: int | None = None

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"after {self.seconds:.2f} s of processor time"
        return "never" if self.change is None else f"at change {self.change} of a file"


NEVER = Moment()


@dataclass(frozen=True)
class Ending:
    """How a process ended: its exit status (-9: killed), processor seconds, changes of files, what it printed, and
    whether processes that it had started lived on."""

    status: int
    seconds: float
    changes: int
    log: str
    outlived: bool

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


def preload(modules: Sequence[str]) -> None:
    """Have these imported before the first process is forked; what takes seconds, and starts no threads by being
    imported."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["torch", *modules])


def run_victim(command: Command, watched: Path, log: Path, moment: Moment, patience: float) -> Ending:
    """Run a command, and kill it at that moment if it has not ended before.

    Args:
        watched: the folder whose changes count. log: where its output goes.
        patience: seconds until it counts as hanging.

    Raises:
        TimeoutError: for one that hangs; it is killed.
    """
    context = multiprocessing.get_context("forkserver")
    changes = context.Value("i", 0, lock=False)
    process = context.Process(target=_live, args=(command, watched, log, moment.change, changes))
    process.start()
    seconds = _wait(process, moment.seconds, patience)
    outlived = _is_outlived(process.pid)
    printed = log.read_text(errors="replace") if log.is_file() else ""
    return Ending(process.exitcode, seconds, changes.value, printed, outlived)


def _wait(process: BaseProcess, kill_after: float | None, patience: float) -> float:
    """Wait for the end; returns the processor time."""
    seconds, deadline = 0.0, time.monotonic() + patience
    while process.is_alive():
        seconds = max(seconds, processor_seconds(process.pid))
        if kill_after is not None and seconds >= kill_after:
            process.kill()
            process.join()
        elif time.monotonic() > deadline:
            process.kill()
            process.join()
            raise TimeoutError(f"not done after {patience:.0f} s")
        time.sleep(_LOOK_EVERY)
    process.join()
    return seconds


def _is_outlived(group: int) -> bool:
    """Whether there still is a process of a group after a while; it is then killed."""
    deadline = time.monotonic() + _LONGEST_LIFE
    try:
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.01)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def processor_seconds(pid: int) -> float:
    """What a process has used so far, all its threads together; 0 for one that is gone (Linux)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _live(command: Command, watched: Path, log: Path, die_at: int | None, changes: ctypes.c_int) -> None:
    """What the forked process does."""
    import torch

    os.setpgrp()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    torch.set_num_threads(1)
    _count_changes(watched, die_at, changes)
    sys.argv = [command.module, *command.arguments]
    # Its modules are there already, which runpy warns of.
    sys.modules.pop(command.module, None)
    runpy.run_module(command.module, run_name="__main__", alter_sys=True)


def _count_changes(watched: Path, die_at: int | None, changes: ctypes.c_int) -> None:
    top, own = str(watched), os.getpid()

    def note(event: str, details: tuple) -> None:
        if event == "open":
            writing = isinstance(details[2], int) and details[2] & _WRITING
        else:
            writing = event in _CHANGES
        if not writing or os.getpid() != own or not isinstance(details[0], str | os.PathLike):
            return
        if os.fspath(details[0]).startswith(top):
            changes.value += 1
            if changes.value == die_at:
                os.kill(own, signal.SIGKILL)

    sys.addaudithook(note)
