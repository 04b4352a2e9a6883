"""What is measured, under which names, and the means of it over groups of pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .spheres import SPHERES

Scores = Mapping[str, Mapping[str, float]]
"""Method → metric → value, as `measure.measure_pair` gives them."""


@dataclass(frozen=True)
class Metric:
    """A column: its key in the files, its heading, unit, decimals to show, and which way is better."""

    key: str
    label: str
    unit: str
    decimals: int
    higher_is_better: bool = False
    meaning: str = ""


@dataclass(frozen=True)
class Method:
    """A row: what was compared with the truth."""

    key: str
    label: str


@dataclass(frozen=True)
class Table:
    """Which methods are compared by which metrics."""

    key: str
    title: str
    methods: Sequence[Method]
    metrics: Sequence[Metric]
    note: str = ""


@dataclass(frozen=True)
class PairScores:
    """The scores of one pair, and the groups that it belongs to."""

    subject: str
    env: str
    tone_group: str
    light_kind: str
    scores: Scores


@dataclass(frozen=True)
class Summary:
    """A metric over some pairs. Pairs without a value (NaN) do not count; with none, both figures are NaN."""

    mean: float
    median: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan, 0)
        return cls(statistics.fmean(known), statistics.median(known), len(known))


PICTURE_METHODS = (
    Method("input", "Untouched input"),
    Method("flat_vae", "Delit, as the VAE decodes it"),
    Method("flat", "Delit, with detail transfer"),
    Method("flat_ceiling", "Ceiling: the true flat-lit image through the VAE"),
)
LIGHT_METHODS = (
    Method("mean_env", "Training set's mean environment, of maps of one brightness"),
    Method("env", "Delit"),
    Method("env_ceiling", "Ceiling: the true environment through the env code"),
)

PICTURE_METRICS = (
    Metric("psnr", "PSNR", "dB", 2, True),
    Metric("si_psnr", "si-PSNR", "dB", 2, True, "PSNR after one optimal factor an image: exposure forgiven"),
    Metric("ssim", "SSIM", "", 3, True),
    Metric(
        "shading_left", "Shading left", "", 2, meaning="slope against the input's shading: 1 is all, 0 none"
    ),
    Metric("lpips", "LPIPS", "", 3, False, "perceptual distance; 0 is the same"),
)
LIGHT_METRICS = (
    Metric("irradiance_error", "Irradiance", "stops", 2, meaning="light on surfaces of all orientations"),
    Metric("env_si_rmse", "Env si-RMSE", "", 3, meaning="share of the truth's RMS after one optimal factor"),
    Metric("env_angle", "Env RGB angle", "°", 2, meaning="colour, not direction"),
    Metric("peak_direction", "Peak direction", "°", 1, meaning="angle between the brightest pixels"),
    Metric("dominant_direction", "Dominant light", "°", 1, meaning="angle between the caps with most energy"),
    Metric(
        "net_direction", "Net direction", "°", 1, meaning="angle between the mean directions of all light"
    ),
)


def _sphere_metrics(prefix: str) -> tuple[Metric, ...]:
    columns = (
        ("si_rmse", "si-RMSE", "", 3),
        ("angle", "RGB angle", "°", 2),
        ("normalised_rmse", "normalised RMSE", "", 3),
    )
    return tuple(
        Metric(f"{prefix}{sphere}_{key}", f"{sphere.capitalize()} {label}", unit, decimals)
        for sphere in SPHERES
        for key, label, unit, decimals in columns
    )


TABLES = (
    Table(
        "flat",
        "The flat-lit image, inside the mask",
        PICTURE_METHODS,
        PICTURE_METRICS,
        "All on sRGB-coded values, against the flat-lit subject in front of the input's background, which soft edges "
        "show too. Higher is better, but for LPIPS and the shading left.",
    ),
    Table(
        "light",
        "The environment map",
        LIGHT_METHODS,
        LIGHT_METRICS,
        "Lower is better. “RGB angle” is the mean angle between RGB vectors: colour, not direction. The mean "
        "environment is the arithmetic mean of the training set's maps, each first brought to their typical "
        "brightness (the geometric mean of their mean luminances).",
    ),
    Table(
        "spheres",
        "Three spheres, plain linear light",
        LIGHT_METHODS,
        _sphere_metrics(""),
        "Lower is better. The si-RMSE is a share of the true sphere's root mean square.",
    ),
    Table(
        "legacy_spheres",
        "Three spheres, legacy protocol",
        LIGHT_METHODS,
        _sphere_metrics("legacy_"),
        "For comparing with figures published since StyleLight, and for nothing else: the light is gamma-compressed "
        "(E^(1/2.4), non-zero median 0.5), and the RMSE divides by pixels rather than by 3 × pixels.",
    ),
)


HEADLINES = (
    "input.psnr",
    "flat.psnr",
    "flat.si_psnr",
    "flat.shading_left",
    "flat_ceiling.psnr",
    "mean_env.irradiance_error",
    "env.irradiance_error",
    "mean_env.net_direction",
    "env.net_direction",
)
"""The figures that tell most, each as `method.metric`."""


def summarise(pairs: Sequence[PairScores]) -> dict[str, dict[str, Summary]]:
    """Method → metric → mean and median over the pairs. A metric that no pair has is left out."""
    summary: dict[str, dict[str, Summary]] = {}
    for table in TABLES:
        for method in table.methods:
            for metric in table.metrics:
                values = [
                    scores[metric.key]
                    for pair in pairs
                    if metric.key in (scores := pair.scores.get(method.key, {}))
                ]
                if values:
                    summary.setdefault(method.key, {})[metric.key] = Summary.of(values)
    return summary


def group_by(pairs: Sequence[PairScores], attribute: str) -> dict[str, list[PairScores]]:
    """The pairs by "tone_group" or "light_kind", the largest group first."""
    groups: dict[str, list[PairScores]] = {}
    for pair in pairs:
        groups.setdefault(getattr(pair, attribute), []).append(pair)
    return dict(sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])))
