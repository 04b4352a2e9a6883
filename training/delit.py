"""Take the light off pictures, plates and videos from the command line.

    python -m training.delit portrait.jpg --output pictures
    python -m training.delit "shot/plate.####.exr" --coding ACEScg --output pictures
    python -m training.delit folder_or_video --output pictures

For a picture: `<name>_flat.png`, `<name>_env.exr` (the light), `<name>_env.png` (the light, to look at) and
`<name>_compare.png` (before and after). For the frames of a sequence: `<name>_flat.1001.exr` and so on. For a video:
`<name>_flat.mp4`, steady from frame to frame, with its sound, and one `<name>_env.exr` for the shot, or one a frame.
What is done already is left alone, so that the same command goes on where it was stopped; `index.jsonl` in the output
says what is done, from which files and settings, and what of those has changed is done again. Of more than one picture
`report.json` says what was done and what failed and why; the exit status is 1 if any failed.

Many shots, and many machines (docs/studio.md):

    python -m training.delit --shots shots.csv --output delit
    python -m training.delit s3://bucket/plates --output s3://bucket/flat --coding ACEScg --ray auto
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import get_args

from delit_models.coding import SRGB, Coding
from delit_models.errors import DelitError
from delit_models.images import Area, Outside
from delit_models.lat_long import ORIENTATIONS
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE
from delit_models.video.light import EnvPooling

from .batch.places import place_of, seen_from_anywhere
from .batch.plan import carry_out, do_here, load_weights, planned
from .batch.ray_workers import ray_outcomes
from .batch.report import Report
from .batch.results import DEPTHS
from .command_line import run_command


def delit(arguments: argparse.Namespace) -> None:
    if (arguments.source is None) == (arguments.shots is None):
        raise DelitError("Give what to delit, or a list of shots with --shots; one of them.")
    if arguments.workers < 0 or arguments.workers and not arguments.ray:
        raise DelitError(
            f"--workers is {arguments.workers}; with --ray it is how many work at once, or 0 for all there is room for."
        )
    if arguments.ray:
        for name in ("source", "shots", "mask", "output", "vae", "heads"):
            if getattr(arguments, name) is not None:
                setattr(arguments, name, seen_from_anywhere(str(getattr(arguments, name))))
    output, report = place_of(arguments.output), Report()
    pieces = planned(arguments, report)
    # A picture asked for by itself is told of by its own line, and needs no report.
    alone = len(pieces) == 1 and not arguments.shots and not arguments.ray
    report.aloud = not alone
    load = partial(load_weights, arguments.vae, arguments.heads, arguments.device)
    outcomes = partial(do_here, load)
    if arguments.ray:
        gpus = (arguments.device or "cpu").startswith("cuda")
        outcomes = partial(ray_outcomes, load, arguments.ray, arguments.workers, gpus)
    try:
        carry_out(pieces, output, report, outcomes, arguments.overwrite)
    finally:
        if not alone:
            report.write(output)
    if alone and report.failed:
        raise DelitError(report.failed[0]["reason"])
    report.raise_failures(output)
    print(f"The results are in {output.resolve()}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    # fmt: off
    add("source", nargs="?",
        help="a picture, a plate, a sequence (name.####.exr), a video, or a folder of them; a path, or an address such "
        "as s3://bucket/folder")
    add("--output", required=True, help="folder for the results; a path or an address")
    add("--shots", metavar="LIST",
        help="a CSV with a row for each shot (columns: shot, source, mask, first, last and options of this command); "
        "each gets a folder of its own in the output")
    add("--sequence", action="store_true",
        help="numbered frames are a clip: steadied in time, with the light of the shot; shots of a list are anyway")
    add("--vae", default=EMBEDDED_VAE, help="Wan 2.1 VAE file (default: the embedded one)")
    add("--heads", default=EMBEDDED_HEADS, help="heads file (default: the embedded ones)")
    add("--mask", help="mask picture, white where the subject is, a folder of masks named as the files are, or of a "
        "sequence its masks (mask.####.png)")
    add("--area", default="subject", choices=get_args(Area),
        help="what is delit of a picture without a mask: the person, as the heads see it, or all (%(default)s)")
    add("--outside", default="source", choices=get_args(Outside),
        help="what goes outside the mask or the person (%(default)s)")
    add("--coding", default=SRGB, choices=get_args(Coding),
        help="how the pictures are coded: sRGB, or plates in linear light without an upper bound (%(default)s)")
    add("--exposure", type=float, default=0.0, metavar="STOPS",
        help="of plates: how much brighter the network is to see them than it exposes them by itself (0)")
    add("--bit_depth", choices=DEPTHS,
        help="of the flat-lit picture: 8 or 16 bits (PNG), half or float (EXR); 8 for pictures, half for plates")
    add("--gain", action="store_true", help="also write what the source's linear light is multiplied by, as EXR")
    add("--matte", action="store_true", help="also write where the heads see the subject, as PNG")
    add("--working_size", type=int, default=0, metavar="PIXELS",
        help="longest side in pixels that the network sees (0: as the heads were trained)")
    add("--no_detail_transfer", action="store_true", help="show the VAE's own picture")
    add("--orientation", default="delit", choices=ORIENTATIONS,
        help="which program the environment map is turned for (%(default)s)")
    add("--env_pooling", default="shot", choices=get_args(EnvPooling),
        help="of clips: one environment map for the shot, or one a frame, smoothed over time (%(default)s)")
    add("--overwrite", action="store_true", help="do again what is done already")
    add("--ray", metavar="ADDRESS",
        help='delit on the Ray cluster at this address ("auto" for the one this machine is part of, "local" for this '
        "machine alone); files and this checkout must be where all machines find them under the same name")
    add("--workers", type=int, default=0,
        help="with --ray: how many hold the model and work at once; 0 is as many as the cluster has room for")
    add("--device", help="cpu, cuda, cuda:1, mps… (cuda if there is one, else cpu)")
    # fmt: on
    return parser.parse_args()


if __name__ == "__main__":
    run_command(delit, parse_arguments())
