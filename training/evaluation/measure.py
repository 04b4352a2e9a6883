"""Running weights on pairs and comparing what comes out, and the baselines, with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from delit_models.env_codec import MAX_RADIANCE, encode_env
from delit_models.errors import DelitError
from delit_models.pipeline import DelitPipeline
from delit_models.presence import is_file
from delit_models.stages import decode_light, decode_pictures, encode_images, finish, picture_matte
from training.augment.variants import target_picture
from training.data.index import INDEX_FILE
from training.data.pairs import Pairs, read_entries
from training.data.shards import expected_pairs, open_pairs

from .light_metrics import compare_lights
from .metrics import mean_environment_of, spread
from .picture_metrics import PerceptualDistance, compare_pictures, shading_left
from .tables import PairScores


@dataclass(frozen=True)
class Results:
    """What each method makes of a pair: pictures [1, 3, H, W], sRGB-coded, and maps [128, 256, 3], linear; the keys
    are those of `tables.PICTURE_METHODS` and `tables.LIGHT_METHODS`.

    Attributes:
        truth: the picture that the heads are trained towards, [1, 3, H, W]: the true flat-lit subject in front of
            the input's background. Pictures of all methods have a background, and soft edges show some of it; a
            subject on black would be another picture there.
    """

    truth: Tensor
    pictures: dict[str, Tensor]
    lights: dict[str, Tensor]


@dataclass(frozen=True)
class Evaluator:
    """Weights, the pairs to measure them on, and what to measure beside.

    Attributes:
        mean_env: see `load_mean_env`, or None to leave that baseline out.
        lpips: see picture_metrics.load_lpips, or None to leave it out.
        spheres: whether lights are compared by what they cast on spheres, too.
    """

    pipe: DelitPipeline
    pairs: Pairs
    mean_env: Tensor | None = None
    lpips: PerceptualDistance | None = None
    spheres: bool = True

    @torch.inference_mode()
    def run(self, index: int) -> Results:
        """Run the weights on one pair, through the same stages as a user's picture."""
        pipe, pair = self.pipe, self.pairs[index]
        device = next(pipe.vae.parameters()).device
        target = target_picture(pair)
        relit, truth = (rearrange(x, "c h w -> 1 h w c").to(device) for x in (pair.relit, target))
        z, framing = encode_images(pipe.vae, relit, pipe.config.working_size)
        z_flat, env_code, cell_matte = pipe.heads(z)
        made, reconstruction = (
            decode_pictures(vae, latent, framing) for vae, latent in ((pipe.flat_vae, z_flat), (pipe.vae, z))
        )
        matte = picture_matte(cell_matte, relit, framing) if pipe.config.matte else None
        z_truth, _ = encode_images(pipe.vae, truth, pipe.config.working_size)
        pictures = {
            "input": relit,
            "flat_vae": finish(made, relit, None).flat,
            "flat": finish(made, relit, reconstruction, matte).flat,
            "flat_ceiling": finish(decode_pictures(pipe.flat_vae, z_truth, framing), truth, None).flat,
        }
        true_code = encode_env(pair.env.clamp(max=MAX_RADIANCE)[None])
        lights = {"env": decode_light(env_code)[0].cpu(), "env_ceiling": decode_light(true_code)[0]}
        if self.mean_env is not None:
            lights["mean_env"] = self.mean_env
        made_pictures = {name: rearrange(x, "1 h w c -> 1 c h w").cpu() for name, x in pictures.items()}
        return Results(target[None], made_pictures, lights)

    def score(self, index: int) -> PairScores:
        """Measure one pair by all metrics of `tables.TABLES`. Raises DelitError if its mask is empty."""
        self.check(self.pairs, index)
        record, pair = self.pairs.records[index], self.pairs[index]
        results, true_light = self.run(index), rearrange(pair.env, "c h w -> h w c")
        scores = {
            name: compare_pictures(picture, results.truth, pair.mask[None], self.lpips)
            | {
                "shading_left": shading_left(
                    picture, results.pictures["input"], results.truth, pair.mask[None]
                )
            }
            for name, picture in results.pictures.items()
        } | {name: compare_lights(light, true_light, self.spheres) for name, light in results.lights.items()}
        return PairScores(record.subject, record.env, record.tone_group, record.light_kind, scores)

    @staticmethod
    def check(pairs: Pairs, index: int) -> None:
        """Raise DelitError for a pair that cannot be measured, as its mask is empty."""
        if pairs[index].mask.sum() == 0:
            raise DelitError(
                f"The mask of {pairs.name(index)} is empty, so there is nothing to measure. Run "
                "python -m training.check_dataset on the data set."
            )


def load_mean_env(data_root: str) -> Tensor | None:
    """The training set's `metrics.mean_environment` [128, 256, 3]; None if the data set has no training pairs.

    Raises DelitError if it has some and they cannot be read.
    """
    if not _has_training_pairs(Path(data_root)):
        return None
    return rearrange(mean_environment_of(open_pairs(data_root, "train")), "c h w -> h w c")


def _has_training_pairs(root: Path) -> bool:
    """Whether a data set folder's index, or a folder's shards or their list, tell of any."""
    if is_file(root / INDEX_FILE) or not any(root.glob("*.tar")):
        return any(entry["split"] == "train" for entry in read_entries(root))
    return any(root.glob("train-*.tar")) or bool(expected_pairs(root, "train"))


def pick_examples(scores: Sequence[PairScores], count: int) -> list[int]:
    """Places in `scores` of pairs to show, from the worst flat-lit image to the best, evenly through the order."""
    order = sorted(range(len(scores)), key=lambda place: scores[place].scores["flat"]["psnr"])
    return [order[place] for place in spread(len(order), count)]
