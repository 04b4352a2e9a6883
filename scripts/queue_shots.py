"""Run a shot list through a running ComfyUI, without its front end.

    .venv/bin/python scripts/queue_shots.py shots.csv --server http://127.0.0.1:8188

Every shot (a row: shot, source, mask, first, last, coding and other settings) is put into a workflow that loads plates,
by default the shipped `delit_plate_exr`; the flat-lit plates, the gain and the map are then in ComfyUI's output folder,
`shots/<shot>/flat_v001.1001.exr` and so on. Sources and masks are named as *Load Plate* lists them, in ComfyUI's input
folder. What is done is left alone, so that the same command goes on where it was stopped; a changed row is done again.
`report.json` says what was done and what failed and why; the exit status is 1 if any failed. docs/studio.md says more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parents[1]
# As in run.py: some Pythons look for modules in their own folders only.
sys.path.insert(0, str(PACK))

from scripts.comfy_queue.queue import queue_shots  # noqa: E402
from scripts.comfy_queue.server import ComfyUI  # noqa: E402
from training.command_line import run_command  # noqa: E402

WORKFLOW = PACK / "workflows" / "delit_plate_exr.json"


def queue(arguments: argparse.Namespace) -> None:
    shots = Path(arguments.shots)
    record = Path(arguments.record) if arguments.record else shots.with_name(f"{shots.stem}_queue")
    report = queue_shots(
        shots,
        Path(arguments.workflow),
        ComfyUI(arguments.server),
        record,
        arguments.prefix.strip("/"),
        Path(arguments.input) if arguments.input else None,
        arguments.overwrite,
    )
    report.raise_failures(record)
    print(f"{report.done} shots done, {report.left} done before; what and when is in {record.resolve()}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="queue_shots"
    )
    add = parser.add_argument
    # fmt: off
    add("shots", metavar="LIST", help="a CSV with a row for each shot")
    add("--server", default="http://127.0.0.1:8188", help="address of a running ComfyUI (%(default)s)")
    add("--workflow", default=str(WORKFLOW),
        help="a workflow with one “Load Plate (Delit)”, as saved or in the API's format (the shipped delit_plate_exr)")
    add("--prefix", default="shots", help="folder for the results in ComfyUI's output folder (%(default)s)")
    add("--input", metavar="FOLDER",
        help="ComfyUI's input folder, where this machine sees it: then a shot whose files have changed is done again")
    add("--record", metavar="FOLDER",
        help="where index.jsonl (what is done) and report.json go (a folder beside the list, named as it is + _queue)")
    add("--overwrite", action="store_true", help="do again what is done already; ComfyUI saves a new version")
    # fmt: on
    return parser.parse_args()


if __name__ == "__main__":
    run_command(queue, parse_arguments())
