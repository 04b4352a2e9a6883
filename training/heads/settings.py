"""What a run of the heads' training is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from delit_models.errors import DelitError
from training.augment.photography import PhotographyConfig
from training.loop.bounds import MOST_COUNT, MOST_WORKERS, refuse_outside

_MOST_VARIANTS = 1000


@dataclass(frozen=True)
class RunSettings:
    """What a run is asked to do besides TrainConfig.

    Attributes:
        vae, data_roots, output: where the VAE and the data sets are, and where all goes.
        epochs: passes over the learned pairs (over all cached variants where they are cached).
        variants: cached encodings a pair, for VAEs whose encoder is not linear.
        photographed: share of the variants that a camera takes.
        start_from: heads file to go on from, or None.
        resume: go on from the output folder's checkpoint. finish: let its cool-down begin at once.
        minutes: let the cool-down begin in time to end after so many minutes of training.
        save_minutes: minutes between checkpoints. validate_every: steps between validations.
        validation_pairs: how many to validate on at the most.
        workers: processes that draw variants ahead.
        name, licence: stored in the heads file.
    """

    vae: str
    data_roots: list[str]
    output: Path
    epochs: int = 40
    variants: int = 4
    photographed: float = PhotographyConfig().share
    start_from: str | None = None
    resume: bool = False
    finish: bool = False
    minutes: float = math.inf
    save_minutes: float = 10.0
    validate_every: int = 1000
    validation_pairs: int = 48
    workers: int = 1
    name: str = "Delit heads"
    licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        refuse_outside(1, MOST_COUNT, num_epochs=self.epochs, validate_every=self.validate_every)
        refuse_outside(0, MOST_COUNT, validation_pairs=self.validation_pairs)
        refuse_outside(1, _MOST_VARIANTS, latent_variants=self.variants)
        refuse_outside(0, MOST_WORKERS, workers=self.workers)
        refuse_outside(0, 1, photographed=self.photographed)
        refuse_outside(0, math.inf, minutes=self.minutes)
        if self.finish and not self.resume:
            raise DelitError("--finish cools down from a checkpoint: give --resume as well.")
