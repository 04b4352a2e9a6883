"""Measuring heads while they learn: `training.evaluate`'s own path, on pairs of people that are not learned from."""

from __future__ import annotations

from collections.abc import Iterator

from einops import rearrange
from torch import Tensor

from delit_models.pipeline import DelitPipeline
from training.data.pairs import Pairs
from training.evaluation.examples import example_picture
from training.evaluation.measure import Evaluator
from training.evaluation.metrics import spread
from training.evaluation.tables import HEADLINES, summarise

# What a stop of light error weighs against a decibel of the picture, where the best heads are chosen.
_DECIBELS_A_STOP = 4.0
_SHOWN = 4


class Validation:
    """The pairs to measure on, and a few to look at.

    Args:
        validated: the pairs kept aside, perhaps none. learned: those that are shown where there are none.
        mean_env: the learned pairs' mean light, [3, 128, 256].
        limit: how many to measure at the most.

    Raises:
        DelitError: at once, where one of them cannot be measured.
    """

    def __init__(self, validated: Pairs, learned: Pairs, mean_env: Tensor, limit: int) -> None:
        self.validated, self.learned = validated, learned
        self.mean_env = rearrange(mean_env, "c h w -> h w c")
        self.indices = spread(len(validated), limit)
        for index in self.indices:
            Evaluator.check(validated, index)

    def measure(self, pipe: DelitPipeline) -> dict[str, float]:
        """Means by `method.metric`, as in training.evaluate's report.csv but for the spheres; empty without pairs."""
        if not self.indices:
            return {}
        evaluator = Evaluator(pipe, self.validated, self.mean_env, spheres=False)
        summary = summarise([evaluator.score(index) for index in self.indices])
        return {
            f"{method}.{metric}": figures.mean
            for method, metrics in summary.items()
            for metric, figures in metrics.items()
        }

    def pictures(self, pipe: DelitPipeline) -> Iterator[tuple[str, Tensor]]:
        """Names and pictures [3, 256, W], sRGB-coded: relit, Delit's and the true flat-lit image; Delit's light over
        the true one, each with its spheres."""
        kind, pairs = ("validation", self.validated) if self.indices else ("training", self.learned)
        evaluator = Evaluator(pipe, pairs)
        for index in spread(len(pairs), _SHOWN):
            record = pairs.records[index]
            picture = example_picture(evaluator.run(index), pairs[index])
            yield f"{kind}/{record.subject}_{record.env}", rearrange(picture, "h w c -> c h w")


def headlines(metrics: dict[str, float]) -> dict[str, float]:
    """The few figures that a person follows."""
    return {name: round(metrics[name], 3) for name in HEADLINES if name in metrics}


def score(metrics: dict[str, float]) -> float:
    """One figure to choose the best heads by: decibels of the picture, less those that the light's error weighs."""
    return metrics["flat.psnr"] - _DECIBELS_A_STOP * metrics["env.irradiance_error"]
