"""Speed of training heads: steps in both precisions, and what a cache of latents saves with the full Wan VAE.

    python -m benchmarks.training [--size 256 --batch_sizes 8 16 --threads 1 2 --rounds 3]

First the pairs per second of the trainer alone, for `--mixed_precision no` and `bf16`, which take turns. Then a whole
step with a VAE of Wan's width: a batch read from the latent cache and learned from, against its variants drawn anew
and encoded. Random weights and pictures of spheres: neither changes how much there is to compute. The smaller the
pictures, the less the cache saves: the heads' own work on the environment map is the same at all sizes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs

from delit_models.checkpoint import load_wan_vae
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.images import VAE_STRIDE
from delit_models.pipeline import EMBEDDED_VAE
from delit_models.wan_vae import WanVAE, WanVAEConfig
from training.augment.rows import VariantRows
from training.augment.variants import AugmentConfig, Variant
from training.data.pairs import PairDataset
from training.data.sphere_pairs import write_sphere_pairs
from training.heads.batches import LatentPair
from training.heads.encoding import encode_missing, encode_variant
from training.heads.latent_cache import CachedBatches, open_latent_cache
from training.heads.linear_code import LinearCode, fit_linear_code
from training.heads.losses import HeadsLoss
from training.heads.trainer import TrainConfig, Trainer

STEPS = 10**6


def new_trainer(code: LinearCode, batch_size: int, bf16: bool, cpu: bool = True) -> Trainer:
    """A trainer of new heads. Both precisions in one process: with autocast, or with autocast that is switched off."""
    engine = Accelerator(mixed_precision="bf16", cpu=cpu, kwargs_handlers=[AutocastKwargs(enabled=bf16)])
    torch.manual_seed(0)
    heads = DelitHeads(DelitConfig())
    loss = HeadsLoss(code, torch.tensor(heads.config.latent_std))
    return Trainer(TrainConfig(batch_size=batch_size), engine, heads, loss, STEPS)


def random_batch(batch_size: int, size: int) -> LatentPair:
    cells = (size // VAE_STRIDE, size // VAE_STRIDE)
    z, z_flat = torch.randn(2, batch_size, 16, *cells)
    return LatentPair(z, z_flat, torch.rand(batch_size, 1, *cells), torch.rand(batch_size, 4, 128, 256))


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def report_trainer(code: LinearCode, arguments: argparse.Namespace) -> None:
    """Pairs per second by threads, batch size and precision; the precisions take turns."""
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for batch_size in arguments.batch_sizes:
            batch = random_batch(batch_size, arguments.size)
            trainers = {
                "fp32": new_trainer(code, batch_size, False),
                "bf16": new_trainer(code, batch_size, True),
            }
            times: dict[str, list[float]] = {name: [] for name in trainers}
            for trainer in trainers.values():
                trainer.train_step(batch)
            for _ in range(arguments.rounds):
                for name, trainer in trainers.items():
                    times[name].append(seconds(lambda: trainer.train_step(batch)))  # noqa: B023
            speeds = {name: batch_size / median(spent) for name, spent in times.items()}
            ratio = median(one / other for one, other in zip(times["fp32"], times["bf16"], strict=True))
            print(
                f"trainer: {threads} threads, batch {batch_size}: fp32 {speeds['fp32']:.2f} pairs/s, "
                f"bf16 {speeds['bf16']:.2f} pairs/s, {ratio:.2f} times as fast"
            )


def report_cache(code: LinearCode, rows: VariantRows, arguments: argparse.Namespace, folder: Path) -> None:
    """A step from the cache against one whose variants are drawn and encoded, with a VAE of full width."""
    vae = WanVAE(WanVAEConfig(dim=arguments.dim)).eval().requires_grad_(False)
    cache = open_latent_cache(vae, rows, folder)
    encode_missing(cache, vae, rows)
    batches = CachedBatches(cache, rows, arguments.encoded_batch, seed=0)
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        trainer = new_trainer(code, batches.batch_size, bf16=False)
        # The first round finds nothing in the processor's and the disk's memory.
        rounds = [step_times(step, vae, batches, trainer) for step in range(arguments.rounds + 1)][1:]
        drawing, encoding, reading, learning = (median(spent) for spent in zip(*rounds, strict=True))
        cached, anew = reading + learning, drawing + encoding + learning
        print(
            f"VAE of width {arguments.dim}, {threads} threads, batch {batches.batch_size}: drawing {drawing:.3f} s, "
            f"encoding {encoding:.3f} s, reading from the cache {reading:.3f} s, learning {learning:.3f} s"
        )
        print(
            f"a step from the cache {cached:.2f} s, encoding each time {anew:.2f} s, {anew / cached:.1f} times ours; "
            f"getting the batch alone {(drawing + encoding) / reading:.0f} times"
        )


def step_times(step: int, vae: WanVAE, batches: CachedBatches, trainer: Trainer) -> tuple[float, ...]:
    """Seconds for drawing a step's variants, encoding them, reading them from the cache, and learning from them."""
    variants: list[Variant] = []
    read: list[LatentPair] = []
    return (
        seconds(lambda: variants.extend(batches.variants[row] for row in batches.rows(step))),
        seconds(lambda: [encode_variant(vae, variant) for variant in variants]),
        seconds(lambda: read.append(batches.batch(step))),
        seconds(lambda: trainer.train_step(read[0])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--size", type=int, default=256, help="side of the square pictures, pixels (default 256)")
    add(
        "--batch_sizes",
        type=int,
        nargs="+",
        default=[8, 16],
        help="pairs a step of the trainer (default 8 16)",
    )
    add("--threads", type=int, nargs="+", default=[1, 2], help="CPU threads of the trainer (default 1 2)")
    add("--encoded_batch", type=int, default=8, help="pairs a step with the full VAE (default 8)")
    add("--dim", type=int, default=96, help="width of that VAE (default 96, that of Wan 2.1)")
    add("--rounds", type=int, default=3, help="rounds that the medians are over (default 3)")
    arguments = parser.parse_args()
    print(f"{arguments.size} x {arguments.size}")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="delit-benchmark-") as folder:
        write_sphere_pairs(Path(folder, "data"), train_subjects=1, size=arguments.size)
        pairs = PairDataset(Path(folder, "data"), "train")
        pictures = torch.stack([pairs[number].relit for number in range(len(pairs))]) * 2 - 1
        code = fit_linear_code(load_wan_vae(EMBEDDED_VAE), pictures)
        report_trainer(code, arguments)
        report_cache(code, VariantRows(pairs, 2, AugmentConfig(), 0), arguments, Path(folder))


if __name__ == "__main__":
    main()
