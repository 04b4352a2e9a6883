"""Check a data set folder, and write a picture of it to look at.

    python -m training.check_dataset data

Looks into every pair: its files are there and readable, its pictures of the whole set's one size with sides that are
multiples of 8, its light finite, not negative, 2:1 and in the picture's units, its albedo, normals and depth, where its
line names them, what they should be; and no subject, HDRI or map is in both splits. What is broken is listed by name,
and the exit status is then 1. The contact sheet shows the sound pairs: flat-lit, then relit with its light.
"""

from __future__ import annotations

import argparse
from collections import Counter
from functools import partial
from pathlib import Path

from tqdm import tqdm

from delit_models.errors import DelitError
from training.data.check import DatasetCheck, check_folder
from training.data.pairs import light_kind, tone_group
from training.evaluation.metrics import spread
from training.synth.dataset.contact_sheet import write_contact_sheet

from .command_line import run_command

CONTACT_SHEET = "contact_sheet.jpg"
SHEET_SUBJECTS = 16


def check_dataset(arguments: argparse.Namespace) -> None:
    """Check, tell, and write the contact sheet. Raises DelitError if anything is wrong."""
    root = Path(arguments.data_root)
    check = check_folder(root, partial(tqdm, desc="checking", unit="pair", mininterval=2))
    print_summary(check)
    if check.sound:
        sheet = Path(arguments.contact_sheet) if arguments.contact_sheet else root / CONTACT_SHEET
        print(f"Contact sheet: {write_contact_sheet(root, records=to_show(check.sound), path=sheet)}")
    for finding in check.findings:
        print(f"✗ {finding.name}: {finding.problem}")
    if check.findings:
        raise DelitError(
            f"{root} has {len(check.findings)} faults, listed above; {len(check.sound)} of {len(check.records)} pairs "
            "are sound. Repair them, or take their lines out of index.jsonl."
        )
    print(f"✓ All {len(check.records)} pairs are sound, and the splits share nothing.")


def to_show(records: list[dict]) -> list[dict]:
    """The pairs of 16 subjects at the most, spread evenly over the set rather than its first ones."""
    subjects = sorted({record["subject"] for record in records})
    shown = {subjects[place] for place in spread(len(subjects), SHEET_SUBJECTS)}
    return [record for record in records if record["subject"] in shown]


def print_summary(check: DatasetCheck) -> None:
    """How many pairs there are, of whom and in what light."""
    for split, pairs in sorted(Counter(record["split"] for record in check.records).items()):
        own = [record for record in check.records if record["split"] == split]
        print(f"{split}: {pairs} pairs of {len({record['subject'] for record in own})} subjects")
        for title, group_of in (("skin tone", tone_group), ("light", light_kind)):
            counts = Counter(group_of(record) for record in own).most_common()
            print(f"  {title}: {', '.join(f'{name} {count}' for name, count in counts)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_root", help="the data set folder: the one with index.jsonl")
    parser.add_argument(
        "--contact_sheet", help=f"where to write the contact sheet (default: {CONTACT_SHEET} in the folder)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(check_dataset, parse_arguments())
