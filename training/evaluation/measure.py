"""Running weights on pairs and comparing what comes out, and the baselines, with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from delit_models.env_codec import MAX_RADIANCE, encode_env
from delit_models.errors import DelitError
from delit_models.pipeline import DelitPipeline
from delit_models.stages import decode_light, decode_pictures, encode_images, finish

from ..metrics import geometric_mean, spread
from ..pairs import Pairs
from ..shards import open_pairs
from .light_metrics import compare_lights
from .picture_metrics import PerceptualDistance, compare_pictures
from .tables import PairScores

MEAN_ENV_MAPS = 400


@dataclass(frozen=True)
class Results:
    """What each method makes of a pair: pictures [1, 3, H, W], sRGB-coded, and maps [128, 256, 3], linear; the keys
    are those of `tables.PICTURE_METHODS` and `tables.LIGHT_METHODS`."""

    pictures: dict[str, Tensor]
    lights: dict[str, Tensor]


@dataclass(frozen=True)
class Evaluator:
    """Weights, the pairs to measure them on, and what to measure beside.

    Attributes:
        mean_env: the training set's average light [128, 256, 3], or None to leave that baseline out.
        lpips: see picture_metrics.load_lpips, or None to leave it out.
    """

    pipe: DelitPipeline
    pairs: Pairs
    mean_env: Tensor | None = None
    lpips: PerceptualDistance | None = None

    @torch.inference_mode()
    def run(self, index: int) -> Results:
        """Run the weights on one pair, through the same stages as a user's picture."""
        pipe, pair = self.pipe, self.pairs[index]
        device = next(pipe.vae.parameters()).device
        relit, flat = (rearrange(x, "c h w -> 1 h w c").to(device) for x in (pair.relit, pair.flat))
        z, framing = encode_images(pipe.vae, relit, pipe.config.working_size)
        z_flat, env_code = pipe.heads(z)
        made, reconstruction = (decode_pictures(pipe.vae, latent, framing) for latent in (z_flat, z))
        z_truth, _ = encode_images(pipe.vae, flat, pipe.config.working_size)
        pictures = {
            "input": relit,
            "flat_vae": finish(made, relit, None),
            "flat": finish(made, relit, reconstruction),
            "flat_ceiling": finish(decode_pictures(pipe.vae, z_truth, framing), flat, None),
        }
        true_code = encode_env(pair.env.clamp(max=MAX_RADIANCE)[None])
        lights = {"env": decode_light(env_code)[0].cpu(), "env_ceiling": decode_light(true_code)[0]}
        if self.mean_env is not None:
            lights["mean_env"] = self.mean_env
        return Results(
            {name: rearrange(x, "1 h w c -> 1 c h w").cpu() for name, x in pictures.items()}, lights
        )

    def score(self, index: int) -> PairScores:
        """Measure one pair by all metrics of `tables.TABLES`. Raises DelitError if its mask is empty."""
        record, pair = self.pairs.records[index], self.pairs[index]
        if pair.mask.sum() == 0:
            raise DelitError(
                f"The mask of {record.subject}/{record.env} is empty, so there is nothing to measure. Run "
                "python -m training.check_dataset on the data set."
            )
        results, true_light = self.run(index), rearrange(pair.env, "c h w -> h w c")
        scores = {
            name: compare_pictures(picture, pair.flat[None], pair.mask[None], self.lpips)
            for name, picture in results.pictures.items()
        } | {name: compare_lights(light, true_light) for name, light in results.lights.items()}
        return PairScores(record.subject, record.env, record.tone_group, record.light_kind, scores)


def load_mean_env(data_root: str) -> Tensor | None:
    """The training set's average light [128, 256, 3], as a photographer would average: of logarithms. It is taken
    over 400 maps at the most. None if the data set has no training pairs."""
    try:
        pairs = open_pairs(data_root, "train")
    except DelitError:
        return None
    maps = [pairs.light(index) for index in spread(len(pairs), MEAN_ENV_MAPS)]
    return rearrange(geometric_mean(torch.stack(maps)), "c h w -> h w c")


def pick_examples(scores: Sequence[PairScores], count: int) -> list[int]:
    """Places in `scores` of pairs to show, from the worst flat-lit image to the best, evenly through the order."""
    order = sorted(range(len(scores)), key=lambda place: scores[place].scores["flat"]["psnr"])
    return [order[place] for place in spread(len(order), count)]
