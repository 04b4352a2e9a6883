"""Take the light off pictures, plates and videos from the command line.

    python -m training.delit portrait.jpg --output pictures
    python -m training.delit "shot/plate.####.exr" --coding ACEScg --output pictures
    python -m training.delit folder_or_video --output pictures

For a picture: `<name>_flat.png`, `<name>_env.exr` (the light), `<name>_env.png` (the light, to look at) and
`<name>_compare.png` (before and after). For the frames of a sequence: `<name>_flat.1001.exr` and so on. For a video:
`<name>_flat.mp4`, steady from frame to frame, with its sound, and one `<name>_env.exr` for the shot, or one a frame.
What is done already is left alone, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from delit_models.coding import SRGB, Coding
from delit_models.images import Area, Outside
from delit_models.lat_long import ORIENTATIONS
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE, DelitOptions, DelitPipeline
from delit_models.video.light import EnvPooling

from .batch.jobs import find_jobs
from .batch.pictures import DEPTHS, Results, check_options, delit_frames
from .batch.videos import delit_video
from .command_line import choose_device, run_command


def delit(arguments: argparse.Namespace) -> None:
    options = DelitOptions(
        working_size=arguments.working_size,
        detail_transfer=not arguments.no_detail_transfer,
        area=arguments.area,
        outside=arguments.outside,
        coding=arguments.coding,
        exposure=arguments.exposure,
        env_pooling=arguments.env_pooling,
    )
    results = Results(
        Path(arguments.output), arguments.bit_depth, arguments.gain, arguments.matte, arguments.orientation
    )
    jobs = find_jobs(Path(arguments.source), None if arguments.mask is None else Path(arguments.mask))
    for job in jobs:
        check_options(job, options, results)
    pipe = DelitPipeline.load(arguments.vae, arguments.heads, choose_device(arguments.device))
    frames = sum(len(job.files) for job in jobs)
    with tqdm(total=frames, desc="delit", unit="file", disable=frames == 1) as bar:
        for job in jobs:
            if job.is_video:
                delit_video(pipe, job, options, results, arguments.overwrite)
                bar.update()
                continue
            for _ in delit_frames(pipe, job, options, results, arguments.overwrite):
                bar.update()
    print(f"The results are in {results.output.resolve()}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    # fmt: off
    add("source", help="a picture, a plate, a sequence (name.####.exr), a video, or a folder of them")
    add("--output", required=True, help="folder for the results")
    add("--vae", default=EMBEDDED_VAE, help="Wan 2.1 VAE file (default: the embedded one)")
    add("--heads", default=EMBEDDED_HEADS, help="heads file (default: the embedded ones)")
    add("--mask", help="mask picture, white where the subject is, or a folder of masks named as the files are")
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
        help="of videos: one environment map for the shot, or one a frame, smoothed over time (%(default)s)")
    add("--overwrite", action="store_true", help="do again what is done already")
    add("--device", help="cpu, cuda, cuda:1, mps… (cuda if there is one, else cpu)")
    # fmt: on
    return parser.parse_args()


if __name__ == "__main__":
    run_command(delit, parse_arguments())
