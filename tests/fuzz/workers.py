"""Cases run in a process of their own, with a limit on its memory: a crash inside a library is a fault like others, and
takes nobody along.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from .harness import MOST_WAITING, REPOSITORY, Case, throw

MOST_ADDRESSES = 3 * 2**30
"""Bytes of address space that a worker may take beyond what its libraries have: what is asked for and never touched
counts here, too."""
MOST_CRASHES = 5
"""After so many a kind is given up: the worker itself is broken, or the library is."""


def run_kinds(
    plan: Mapping[str, int], seed: int, tell: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, str], int]:
    """Throw so many cases of each kind; the faults with their first cases, and how many cases were thrown."""
    faults: dict[str, str] = {}
    thrown = 0
    for name, number in plan.items():
        left, own_seed, crashes = number, seed, 0
        while left > 0:
            done, outcomes, found = run_worker({name: left}, own_seed)
            faults.update(found)
            thrown += done
            told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            tell(f"{name}: {done} cases (seed {own_seed}): {told or 'crashed'}")
            crashes += any(fault.startswith("crash") for fault in found)
            # Without a crash all that there are were thrown: a small kind may have fewer than asked for.
            left = left - done if outcomes == {} and crashes < MOST_CRASHES else 0
            own_seed += 1000
    return faults, thrown


def run_worker(plan: Mapping[str, int] | None, seed: int) -> tuple[int, dict[str, int], dict[str, str]]:
    """So many cases of some kinds in one process, or None for a short run of every kind: how many were thrown, what
    became of them (empty after a crash), and the faults with their first cases."""
    with TemporaryDirectory(prefix="delit-fuzz-worker-") as folder:
        log = Path(folder, "log")
        command = [sys.executable, "-m", "tests.fuzz.workers", json.dumps(plan), str(seed), str(log)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        lines = log.read_text().splitlines() if log.exists() else []
        result = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None
        if result is not None:
            return sum(result["outcomes"].values()), result["outcomes"], result["faults"]
        last = lines[-1] if lines else "before the first case"
        told = " / ".join(done.stderr.strip().splitlines()[-3:])
        name = ", ".join(plan or ("short run",))
        fault = f"crash of a worker (status {done.returncode}), {name}: {told[-400:]}"
        return max(1, len(lines)), {}, {fault: last}


def _work(plan: Mapping[str, int] | None, seed: int, log: Path) -> None:
    # Here, not above: whoever starts a worker need not take the seconds that all kinds do.
    import torch

    from .kinds import KINDS

    torch.set_num_threads(1)
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + MOST_ADDRESSES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with log.open("w") as file:

        def note(case: Case) -> None:
            signal.alarm(MOST_WAITING)
            file.write(json.dumps(case.name)[:400] + "\n")
            file.flush()

        outcomes: Counter[str] = Counter()
        faults: dict[str, str] = {}
        for name, number in (plan or {name: kind.short for name, kind in KINDS.items()}).items():
            tally = throw(KINDS[name], number, seed, note)
            outcomes += tally.outcomes
            faults |= tally.faults
        file.write(json.dumps({"outcomes": outcomes, "faults": faults}) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _work(json.loads(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
