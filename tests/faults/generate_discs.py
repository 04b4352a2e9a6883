"""training.generate_toy_dataset with discs in place of people, for the harness: what writes is real, what is written is
made at once.

    python -m tests.faults.generate_discs --output_dir D …
"""

from __future__ import annotations

from unittest.mock import patch

import numpy as np

from training import generate_toy_dataset
from training.synth.dataset.folder import DatasetConfig
from training.synth.dataset.samples import StagedSubject, write_pairs
from training.synth.dataset.workers import Work


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


def main(arguments: list[str] | None = None) -> int:
    """The generator's command."""
    with patch.object(generate_toy_dataset, "make_subject", make_disc):
        return generate_toy_dataset.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
