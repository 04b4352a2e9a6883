"""What a run learns from: its pairs, and their batches, drawn anew or from a cache of latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from delit_models.wan_vae import WanVAE
from training.augment.photography import PhotographyConfig
from training.augment.rows import VariantRows
from training.augment.variants import AugmentConfig
from training.data.pairs import Pairs, SomePairs, check_size, fingerprint_of
from training.data.shards import open_pairs
from training.data.splits import split_subjects
from training.evaluation.metrics import mean_environment_of, spread

from .batches import BatchSource
from .drawn import DrawnBatches
from .encoding import encode_missing
from .latent_cache import CachedBatches, LatentCache, open_latent_cache, unused_caches
from .linear_code import LinearCode, fit_linear_code
from .settings import RunSettings
from .trainer import TrainConfig

# The line between latents and pixels, and the latents' mean and deviation, are found on so many pictures.
_LOOKED_AT = 48


@dataclass(frozen=True)
class RunData:
    """The pairs of a run, and its batches.

    Attributes:
        learned, validated: the pairs to learn from, and those to choose the best heads by.
        source: the batches. code: the line from latents to pixels.
        latents: some latents of learned pairs, [N, 16, h, w]. mean_env: the learned pairs' mean light.
        fingerprint: changes when any file of any pair does.
    """

    learned: Pairs
    validated: Pairs
    source: BatchSource
    code: LinearCode
    latents: Tensor
    mean_env: Tensor
    fingerprint: str


def open_data(config: TrainConfig, settings: RunSettings, vae: WanVAE, engine: Accelerator) -> RunData:
    """Pairs and batches: drawn anew for every step where the VAE's encoder is linear, else from a cache of latents."""
    pairs = open_pairs(settings.data_roots, "train")
    split = split_subjects(pairs)
    learned, validated = (SomePairs(pairs, numbers) for numbers in (split.learned, split.validated))
    if not len(validated) and engine.is_main_process:
        tqdm.write(
            "Fewer than twenty people: none is kept for validation, and the last heads count as the best. "
            "training.evaluate measures heads on a test split."
        )
    size = learned[0].relit.shape[-2:]
    looked_at = spread(len(learned), _LOOKED_AT)
    for number in looked_at:
        check_size(learned.name(number), learned[number].relit, size)
    pictures = torch.stack([learned[number].relit for number in looked_at]) * 2 - 1
    code = fit_linear_code(vae, pictures)
    augmentation = AugmentConfig(photography=PhotographyConfig(share=settings.photographed))
    if code.encodes:
        source: BatchSource = DrawnBatches(
            learned,
            range(len(learned)),
            code,
            augmentation,
            config.batch_size,
            config.seed,
            config.lora_rank > 0,
        )
        latents = code.encode(pictures)
    else:
        rows = VariantRows(learned, settings.variants, augmentation, config.seed)
        cache = _filled_cache(rows, settings, vae, engine, config.lora_rank > 0)
        source = CachedBatches(cache, rows, config.batch_size, config.seed)
        latents = cache.latents(_LOOKED_AT)
    return RunData(
        learned, validated, source, code, latents, mean_environment_of(learned), fingerprint_of(learned)
    )


def _filled_cache(
    rows: VariantRows, settings: RunSettings, vae: WanVAE, engine: Accelerator, with_target: bool
) -> LatentCache:
    """The run's cache of latents, with all that it lacked encoded by all processes together."""
    # The first process begins the cache, the others find it.
    with engine.main_process_first():
        cache = open_latent_cache(vae, rows, settings.output, with_target)
    if engine.is_main_process:
        for told in unused_caches(cache):
            tqdm.write(told)
    encode_missing(cache, vae, rows, engine.process_index, engine.num_processes, settings.workers)
    return cache
