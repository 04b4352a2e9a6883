"""Renders a synthetic light stage to a folder: relit portraits with their flat-lit picture, mask and environment.

    python -m training.generate_toy_dataset --output_dir data --num_subjects 200 --num_envs 5

A killed run is continued by the same command; more subjects or envs can be asked for later.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tqdm import tqdm

from delit_models.errors import DelitError
from training.synth.contact_sheet import write_contact_sheet
from training.synth.dataset import (
    DatasetConfig,
    append_index,
    missing_work,
    prepare_folder,
    repair_index,
)
from training.synth.lights import SHIPPED_HDRI_DIR, hdri_names


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="generate_toy_dataset"
    )
    add = parser.add_argument
    add(
        "--output_dir",
        type=Path,
        required=True,
        help="folder of the data set; made, or continued when it is there",
    )
    add("--num_subjects", type=int, required=True, help="people in the data set")
    add("--num_envs", type=int, required=True, help="environments, and so relit pictures, per person")
    add(
        "--image_size",
        type=int,
        default=256,
        help="side of the square pictures in pixels, a multiple of 8 (256)",
    )
    add("--seed", type=int, default=0, help="the same seed gives the same data set (0)")
    add(
        "--samples_per_pixel",
        type=int,
        default=48,
        help="light paths traced per pixel; fewer is noisier (48)",
    )
    add(
        "--workers",
        type=int,
        default=0,
        help="processes that render at once; 0 takes one for two processor cores. The pictures do not depend on it",
    )
    add(
        "--hdri_dir",
        type=Path,
        default=SHIPPED_HDRI_DIR,
        help="folder of .exr or .hdr lat-longs (the shipped CC0 set)",
    )
    add(
        "--test_fraction", type=float, default=0.12, help="share of the people in the test split, 0..1 (0.12)"
    )
    add(
        "--preview",
        action="store_true",
        help="write contact_sheet.jpg into the folder at the end: a few people, flat-lit, relit and their light",
    )
    return parser.parse_args(arguments)


_renderer = None


def _start_worker(threads: int) -> None:
    """Starts this process's renderer; runs once in every worker."""
    global _renderer
    from training.synth.mitsuba_runtime import start_mitsuba

    _renderer = start_mitsuba(threads=threads)


def _render_work(config: DatasetConfig, work: tuple[int, list[int]]) -> list[dict]:
    """Renders what is missing of one subject, in a worker; returns its index records."""
    from training.synth.samples import render_subject

    return list(render_subject(_renderer, config, *work))


def _rendered(config: DatasetConfig, work: list[tuple[int, list[int]]], workers: int) -> Iterator[list[dict]]:
    """Index records subject by subject, as they are done."""
    cores = os.cpu_count() or 1
    render = partial(_render_work, config)
    if workers == 1:
        _start_worker(cores)
        yield from map(render, work)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, (max(1, cores // workers),)) as pool:
        yield from pool.imap_unordered(render, work)


def generate(config: DatasetConfig, workers: int) -> int:
    """Renders everything of the data set that is not there yet; returns how many pairs were made."""
    # A bad folder of HDRIs is reported before anything is rendered.
    for split in ("train", "test"):
        hdri_names(config.hdri_dir, split)
    prepare_folder(config)
    work = missing_work(config, repair_index(config.output_dir))
    pairs = sum(len(envs) for _, envs in work)
    if not pairs:
        print(f"{config.output_dir} is complete.")
        return 0
    with tqdm(total=pairs, unit="pair", smoothing=0.05, mininterval=1.0) as progress:
        for records in _rendered(config, work, min(workers, len(work))):
            append_index(config.output_dir, records)
            progress.update(len(records))
    return pairs


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = parse_arguments(arguments)
    try:
        config = DatasetConfig(
            output_dir=options.output_dir,
            num_subjects=options.num_subjects,
            num_envs=options.num_envs,
            image_size=options.image_size,
            seed=options.seed,
            samples_per_pixel=options.samples_per_pixel,
            test_fraction=options.test_fraction,
            hdri_dir=options.hdri_dir,
        )
        workers = options.workers or max(1, (os.cpu_count() or 1) // 2)
        pairs = generate(config, workers)
        if options.preview:
            print(f"Contact sheet: {write_contact_sheet(config.output_dir)}")
    except DelitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{pairs} pairs rendered into {config.output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
