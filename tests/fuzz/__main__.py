"""Bad input by the thousand: generated cases of every kind, and what became of them.

    scripts/fuzz                                 the full run, in this process's own workers
    scripts/fuzz --kinds "picture files" --cases 300 --seed 7

The exit status is 1 where a fault was found. The same seed throws the same cases.
"""

from __future__ import annotations

import argparse
import sys

from .kinds import KINDS
from .workers import run_kinds


def main() -> None:
    arguments = parse_arguments()
    chosen = arguments.kinds or sorted(KINDS)
    plan = {name: arguments.cases or KINDS[name].full for name in chosen}
    faults, number = run_kinds(plan, arguments.seed, print)
    for fault, name in faults.items():
        print(f"✗ {fault}\n    first: {name}")
    print(f"{number} cases, {len(faults)} faults, seed {arguments.seed}")
    sys.exit(bool(faults))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), help="only these (all)")
    parser.add_argument("--cases", type=int, help="of each kind (as many as a full run throws)")
    parser.add_argument("--seed", type=int, default=0, help="another seed throws other cases (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
