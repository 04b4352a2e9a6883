"""Commands for the harness that stand in where the real one would cost minutes: what writes is real, what is written is
made at once.

    python -m tests.faults.stand_ins generate …      training.generate_toy_dataset, whose people are discs
    python -m tests.faults.stand_ins train …         training.train_delit_wan, with a checkpoint after every step
    python -m tests.faults.stand_ins encode DATA OUT the latent cache of a data set, with patch means as its VAE
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np

from delit_models.errors import DelitError
from tests.unit.patch_means import PatchMeans
from training import generate_toy_dataset, train_delit_wan
from training.augment.rows import VariantRows
from training.augment.variants import AugmentConfig
from training.command_line import run_command
from training.data.shards import open_pairs
from training.heads import latent_cache
from training.heads.encoding import encode_missing
from training.heads.latent_cache import open_latent_cache
from training.heads.run import RunSettings
from training.synth.dataset.folder import DatasetConfig
from training.synth.dataset.samples import StagedSubject, write_pairs
from training.synth.dataset.workers import Work

VARIANTS = 3


def make_disc(config: DatasetConfig, variant: str, threads: int, work: Work) -> list[dict]:
    """A subject's files, written by what writes a rendered one's."""
    subject, envs = work
    across = np.linspace(-1, 1, config.image_size, dtype=np.float32)
    coverage = (np.hypot(across[:, None], across[None, :]) < 0.7).astype(np.float32)[..., None]
    albedo = np.float32([0.2, 0.3, 0.4]) + np.float32(0.05) * subject
    flat = np.concatenate([albedo * coverage, coverage], axis=-1)

    def relight(radiance: np.ndarray, env: int) -> tuple[np.ndarray, np.ndarray]:
        return flat * np.float32([*radiance.mean((0, 1)), 1]), radiance

    staged = StagedSubject(subject, flat, relight, 40.0, np.eye(3), {}, 0, {})
    return list(write_pairs(config, staged, envs))


def generate(arguments: list[str]) -> int:
    """The generator's command with discs for people."""
    generate_toy_dataset.make_subject = make_disc
    return generate_toy_dataset.main(arguments)


def train(arguments: list[str]) -> None:
    """The heads' training, which else saves every ten minutes."""
    train_delit_wan.RunSettings = partial(RunSettings, save_minutes=0.0)
    run_command(train_delit_wan.train, train_delit_wan.parse_arguments(arguments))


def encode(data: str, output: str) -> int:
    """The latent cache, in chunks of one pair."""
    latent_cache.CHUNK_ROWS = VARIANTS
    rows = VariantRows(open_pairs(data, "train"), VARIANTS, AugmentConfig(), 0)
    try:
        encode_missing(open_latent_cache(PatchMeans(), rows, Path(output)), PatchMeans(), rows)
    except DelitError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "train":
        train(rest)
    else:
        raise SystemExit(generate(rest) if what == "generate" else encode(*rest))
