"""Bad input by the thousand: generated cases of every kind, and what became of them.

    scripts/fuzz                                 the full run, in this process's own workers
    scripts/fuzz --kinds "picture files" --cases 300 --seed 7

The exit status is 1 where a fault was found. The same seed throws the same cases.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from .harness import throw
from .kinds import KINDS
from .workers import run_kinds

SERVER = "server"


def main() -> None:
    arguments = parse_arguments()
    chosen = arguments.kinds or [*sorted(KINDS), SERVER]
    plan = {name: arguments.cases or KINDS[name].full for name in chosen if name != SERVER}
    faults, number = run_kinds(plan, arguments.seed, partial(print, flush=True))
    if SERVER in chosen:
        found, thrown = run_server(arguments.cases, arguments.seed)
        faults, number = faults | found, number + thrown
    for fault, name in faults.items():
        print(f"✗ {fault}\n    first: {name}")
    print(f"{number} cases, {len(faults)} faults, seed {arguments.seed}")
    sys.exit(bool(faults))


def run_server(number: int | None, seed: int) -> tuple[dict[str, str], int]:
    """Prompts at the newest ComfyUI that is there: the faults with their first cases, and how many were posted."""
    from tests.comfy.comfyui import HOW_TO_PROVIDE, ComfyServer, find_checkouts

    from .server import CASES, server_kind

    checkouts = find_checkouts()
    if not checkouts:
        print(f"server: left out ({HOW_TO_PROVIDE})")
        return {}, 0
    with tempfile.TemporaryDirectory(prefix="delit-fuzz-server-") as folder:
        with ComfyServer(checkouts[-1], Path(folder, "comfyui"), "symlink") as server:
            tally = throw(server_kind(server), number or CASES, seed)
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(tally.outcomes.items()))
    thrown = sum(tally.outcomes.values())
    print(f"{SERVER}: {thrown} cases (ComfyUI {checkouts[-1].version}, seed {seed}): {told}", flush=True)
    return tally.faults, thrown


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=[*sorted(KINDS), SERVER], help="only these (all)")
    parser.add_argument("--cases", type=int, help="of each kind (as many as a full run throws)")
    parser.add_argument("--seed", type=int, default=0, help="another seed throws other cases (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
