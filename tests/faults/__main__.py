"""kill -9 at the worst moment: every command that writes is killed, and must leave whole files and go on.

    scripts/kill                                   a hundred rounds of every job: a night's work
    scripts/kill --jobs shards cache --rounds 20 --seed 7

A round starts a job, kills it at a moment that is drawn (a time, or the nth change of a file), looks at what is left,
in some rounds does so again, and then lets a start go on to its end. The exit status is 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from .jobs import JOBS
from .rounds import play
from .saving_server import play_server
from .victims import preload

SERVER = "comfyui"


def main() -> None:
    arguments = parse_arguments()
    known = [JOBS[name] for name in arguments.jobs if name in JOBS]
    preload([name for job in known for name in (job.module, *job.needs)])
    faults = 0
    for name in arguments.jobs:
        folder = Path(tempfile.mkdtemp(prefix="delit-kill-", dir=arguments.folder))
        rounds = range(arguments.first, arguments.first + arguments.rounds)
        if name == SERVER:
            tally = play_server(folder, rounds, arguments.seed, say)
        else:
            tally = play(name, JOBS[name], folder, rounds, arguments.seed, say)
        kept = f" (kept in {folder})" if tally.faults else ""
        say(f"{name}: {tally.rounds} rounds, {tally.kills} kills, {len(tally.faults)} faults{kept}")
        faults += len(tally.faults)
        if not tally.faults:
            shutil.rmtree(folder)
    sys.exit(bool(faults))


def say(line: str) -> None:
    """Print it now, though a file may be listening."""
    print(line, flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/kill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--jobs", nargs="+", choices=[*JOBS, SERVER], default=[*JOBS, SERVER], help="only these (all)"
    )
    parser.add_argument("--rounds", type=int, default=100, help="of each job (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first round (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other moments (%(default)s)")
    parser.add_argument("--folder", help="where to work (the system's folder for temporary files)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
