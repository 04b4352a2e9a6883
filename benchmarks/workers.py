"""Pictures per second of `training.delit --ray` against workers: measured on this machine, worked out beyond it.

    python -m benchmarks.workers [--pictures 24] [--size 512] [--most 2]

Each count of workers runs on a Ray cluster on this machine that offers a core a worker, in turns; the first pictures
warm the workers up and are not counted. Then workers that do nothing show how many pieces a second Ray and the one who
keeps the index can hand out: no cluster goes past that, however many machines it has. What a picture reads and writes
says how fast the store has to be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from delit_models.image_files import write_image
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE
from training.batch.pieces import Do, Outcome, Piece
from training.batch.plan import Outcomes, carry_out, load_weights, planned
from training.batch.ray_workers import ray_outcomes
from training.batch.report import Report
from training.delit import parse_arguments

EMPTY_PIECES = 2000
BEYOND = (4, 16, 64, 256)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=24, help="counted in each run (%(default)s)")
    parser.add_argument("--size", type=int, default=512, help="side of the pictures in pixels (%(default)s)")
    parser.add_argument("--most", type=int, default=2, help="workers at the most; cores here (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="turns; the best of them counts (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="delit_workers_") as folder:
        root = Path(folder)
        write_pictures(root / "in", options.pictures + 2 * options.most, options.size)
        load = partial(load_weights, str(EMBEDDED_VAE), str(EMBEDDED_HEADS), "cpu")
        counts = range(1, options.most + 1)
        runs = [
            (workers, rate_of(root, load, workers, options.pictures))
            for _ in range(options.rounds)
            for workers in counts
        ]
        best = {workers: max(rate for n, rate in runs if n == workers) for workers in counts}
        for workers, rate in best.items():
            print(f"{workers} workers: {rate:.2f} pictures/s ({rate / best[1]:.2f} times one worker's)")
        ceiling = handed_out(root, options.most)
        megabytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6
        megabytes /= options.pictures + 2 * options.most
    print(f"workers that do nothing: {ceiling:.0f} pieces/s handed out and put into the index")
    print(f"a picture reads and writes {megabytes:.2f} MB")
    for workers in BEYOND:
        rate = min(workers * best[1], ceiling)
        held = " (what can be handed out)" if rate == ceiling else ""
        print(f"worked out, {workers} workers: {rate:.1f} pictures/s{held}, {rate * megabytes:.0f} MB/s")


def write_pictures(folder: Path, count: int, size: int) -> None:
    random = torch.Generator().manual_seed(0)
    for number in range(count):
        coarse = torch.rand(1, 3, 8, 8, generator=random)
        picture = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
        write_image(folder / f"picture{number:05}.png", picture[0].permute(1, 2, 0) * 0.8)


def rate_of(root: Path, load: partial, workers: int, pictures: int) -> float:
    """Pictures per second, once all workers are at it."""
    pieces = pieces_in(root / "in", root / "out")
    times = times_of(load, pieces, root / "out", workers)
    counted = times[len(times) - pictures - 1 :]
    return pictures / (counted[-1] - counted[0])


def times_of(load: Callable[[], Do], pieces: list[Piece], output: Path, workers: int) -> list[float]:
    """When each piece was done, in seconds from any moment, on a cluster of so many workers."""
    times: list[float] = []

    def timed(todo: list[Piece]) -> Outcomes:
        for done in ray_outcomes(load, address, workers, False, todo):
            times.append(time.perf_counter())
            yield done

    with cluster_of(workers) as address:
        carry_out(pieces, output, Report(), timed, overwrite=True)
    return times


@contextmanager
def cluster_of(cores: int) -> Iterator[str]:
    """The address of a cluster on this machine that offers so many cores."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=cores, object_store_memory=200_000_000, include_dashboard=False)
        yield cluster.address
    finally:
        cluster.shutdown()


def pieces_in(source: Path, output: Path) -> list[Piece]:
    arguments = sys.argv
    sys.argv = ["delit", str(source), "--output", str(output)]
    try:
        return planned(parse_arguments(), Report())
    finally:
        sys.argv = arguments


def do_nothing() -> Do:
    return lambda piece: Outcome()


def handed_out(root: Path, workers: int) -> float:
    """Pieces per second of workers that do nothing, with their lines in an index."""
    one = pieces_in(root / "in", root / "nothing")[0]
    pieces = [Piece(f"k{number}", "", one.job, one.options, one.results) for number in range(EMPTY_PIECES)]
    times = times_of(do_nothing, pieces, root / "nothing", workers)
    counted = times[EMPTY_PIECES // 10 :]
    return (len(counted) - 1) / (counted[-1] - counted[0])


if __name__ == "__main__":
    main()
