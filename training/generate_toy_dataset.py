"""Renders a synthetic light stage to a folder: relit portraits with their flat-lit picture, mask and environment.

    python -m training.generate_toy_dataset --output_dir data --num_subjects 200 --num_envs 5

A killed run is continued by the same command; more subjects or envs can be asked for later.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from delit_models.atomic_write import remove_unfinished
from delit_models.errors import DelitError
from training.data.index import INDEX_FILE
from training.loop.bounds import MOST_WORKERS
from training.synth.dataset.captures import find_captures
from training.synth.dataset.contact_sheet import write_contact_sheet
from training.synth.dataset.folder import (
    DESCRIPTION_FILE,
    DatasetConfig,
    append_index,
    files_are_there,
    missing_work,
    prepare_folder,
    remove_unfinished_files,
    repair_index,
)
from training.synth.dataset.workers import (
    CORES_PER_SUBJECT,
    Work,
    default_workers,
    local_records,
    make_subject,
    ray_records,
)
from training.synth.render.denoise import check_denoiser
from training.synth.render.mitsuba_runtime import renderer_variant

from .command_line import refusal
from .make_shards import make_shards, packed_already, print_counts, refuse_filled


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="generate_toy_dataset"
    )
    add_what_to_make(parser.add_argument)
    add_light_stage(parser.add_argument)
    add_where_to_render(parser.add_argument)
    return parser.parse_args(arguments)


def add_what_to_make(add: Callable[..., object]) -> None:
    """Options of the folder and its pictures."""
    add(
        "--output_dir",
        type=Path,
        required=True,
        help="folder of the data set; made, or continued when it is there",
    )
    add("--num_subjects", type=int, help="people in the data set; of captures, all when it is left out")
    add("--num_envs", type=int, required=True, help="environments, and so relit pictures, per person")
    add(
        "--image_size",
        type=int,
        default=DatasetConfig.image_size,
        help="side of the square pictures in pixels, a multiple of 8 (%(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=DatasetConfig.seed,
        help="the same seed gives the same data set (%(default)s)",
    )
    add(
        "--samples_per_pixel",
        type=int,
        default=DatasetConfig.samples_per_pixel,
        help="light paths traced per pixel; fewer is blurrier, or noisier without denoising (%(default)s)",
    )
    add(
        "--no_denoise",
        dest="denoise",
        action="store_false",
        help="leave the renderer's noise in; pictures as clean then take some six times the samples",
    )
    add(
        "--hdri_dir",
        type=Path,
        default=DatasetConfig.hdri_dir,
        help="folder of .exr or .hdr lat-longs (the shipped CC0 set)",
    )
    add(
        "--test_fraction",
        type=float,
        default=DatasetConfig.test_fraction,
        help="share of the people in the test split, 0..1 (%(default)s)",
    )
    add(
        "--preview",
        action="store_true",
        help="write contact_sheet.jpg into the folder at the end: a few people, flat-lit, relit and their light",
    )
    add(
        "--shards",
        type=Path,
        metavar="FOLDER",
        help="also pack the finished set into WebDataset shards there, as training.make_shards does; a folder that is "
        "new or empty",
    )


def add_light_stage(add: Callable[..., object]) -> None:
    """Options of one light at a time."""
    add(
        "--olat",
        type=int,
        default=DatasetConfig.olat,
        metavar="LIGHTS",
        help="render each person once under each of so many lights and compose all pictures from those (light_stage.py "
        "tells what that does to hard light); pays for many environments a person. 0 renders every picture (0)",
    )
    add(
        "--keep_olat",
        action="store_true",
        help="with --olat: store the pictures of the lights too, as half-float EXR in subjects/<id>/olat/",
    )
    add(
        "--olat_captures",
        type=Path,
        metavar="FOLDER",
        help="compose pairs from real captures of one light at a time (layout: synth/dataset/captures.py), or from "
        "what --keep_olat has stored",
    )


def add_where_to_render(add: Callable[..., object]) -> None:
    """Options of the machines that do it."""
    add(
        "--workers",
        type=int,
        default=0,
        help="processes that render at once; 0 takes one for two processor cores. The pictures do not depend on it",
    )
    add(
        "--device",
        choices=("cpu", "cuda"),
        default=DatasetConfig.device,
        help="where Mitsuba renders (%(default)s)",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        help='render on the Ray cluster at this address ("auto" for the one this machine is part of, "local" for this '
        "machine alone); --output_dir and this checkout must be on a disk that all machines share",
    )


def unfinished_work(config: DatasetConfig) -> list[Work]:
    """Makes or mends the folder; returns what is still to make. Folders without HDRIs or captures are refused first."""
    if config.denoise and config.olat_captures is None:
        check_denoiser()
    if config.olat_captures is not None:
        captured = len(find_captures(config.olat_captures))
        if config.num_subjects > captured:
            raise DelitError(
                f"{config.num_subjects} subjects were asked for; {config.olat_captures} holds {captured}. Ask for "
                "no more, or leave --num_subjects out."
            )
    prepare_folder(config)
    remove_unfinished([config.output_dir / DESCRIPTION_FILE, config.output_dir / INDEX_FILE])
    work = missing_work(config, repair_index(config.output_dir))
    remove_unfinished_files(config.output_dir, (subject for subject, _ in work))
    return work


def collect(config: DatasetConfig, work: list[Work], made: Iterator[list[dict]]) -> int:
    """Writes the index while subjects are made, with a progress bar; returns the number of pairs.

    Raises DelitError where files that a worker says it wrote are not there.
    """
    pairs = 0
    with tqdm(
        total=sum(len(envs) for _, envs in work), unit="pair", smoothing=0.05, mininterval=1.0
    ) as progress:
        for records in made:
            if not all(files_are_there(config.output_dir, record) for record in records):
                raise DelitError(
                    f"A worker wrote subject {records[0]['subject']} where this machine does not see it. Give an "
                    "--output_dir on a disk that all machines share, under the same path."
                )
            append_index(config.output_dir, records)
            pairs += len(records)
            progress.update(len(records))
    return pairs


def generate(config: DatasetConfig, workers: int, ray_address: str | None = None) -> int:
    """Makes everything of the data set that is not there yet; returns how many pairs were made.

    workers: processes of this machine, 0 for one for two of its cores; ray_address: of the Ray cluster that works in
    their place. Raises DelitError for less than no workers, before anything is written.
    """
    if not 0 <= workers <= MOST_WORKERS:
        raise DelitError(
            f"--workers is {workers}; it must be 1 to {MOST_WORKERS}, or 0 for one for two processor cores."
        )
    if ray_address:
        paths = (config.output_dir, config.hdri_dir, config.olat_captures)
        output, hdris, captures = (path.resolve() if path else None for path in paths)
        config = replace(config, output_dir=output, hdri_dir=hdris, olat_captures=captures)
    # Skies come from Mitsuba too, so that captures need it as well.
    variant = renderer_variant(config.device)
    work = unfinished_work(config)
    if not work:
        print(f"{config.output_dir} is complete.")
        return 0
    if ray_address:
        make = partial(make_subject, config, variant, CORES_PER_SUBJECT)
        return collect(config, work, ray_records(make, work, ray_address, config.device))
    workers = min(workers or default_workers(config.device), len(work))
    make = partial(make_subject, config, variant, max(1, (os.cpu_count() or 1) // workers))
    return collect(config, work, local_records(make, work, workers))


def _config(options: argparse.Namespace) -> DatasetConfig:
    subjects = options.num_subjects
    if subjects is None:
        if options.olat_captures is None:
            raise DelitError("Say how many people to render: --num_subjects.")
        subjects = len(find_captures(options.olat_captures))
    # Every setting of a data set is an option of the same name.
    settings = {field.name: getattr(options, field.name) for field in fields(DatasetConfig)}
    return DatasetConfig(**settings | {"num_subjects": subjects})


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = parse_arguments(arguments)
    try:
        config = _config(options)
        packed = packed_already(config.output_dir, options.shards) if options.shards else None
        if options.shards and not packed:
            # Not only after hours of rendering.
            refuse_filled(options.shards)
        pairs = generate(config, options.workers, options.ray)
        if options.preview:
            print(f"Contact sheet: {write_contact_sheet(config.output_dir)}")
        if options.shards:
            # Whoever asks for more than was packed once gets told that there is something in its place.
            print_counts(packed if packed and not pairs else make_shards(config.output_dir, options.shards))
    except Exception as error:
        told = refusal(error)
        if told is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The same command goes on.", file=sys.stderr)
        return 130
    print(f"{pairs} pairs made in {config.output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
