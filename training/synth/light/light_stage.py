"""One light at a time: a subject under each of N lights, from which its picture under any environment is a sum.

The lights share the sphere among them like the lamps of a light stage, but without gaps. Light k is brightest in its
own direction and fades into its neighbours; at every point of the sphere the lights sum to 1 (a partition of unity), so
that all of them together are the uniform white environment, and the subject's flat-lit picture is the sum of its
pictures. Light adds up, so a picture under w_1 · light_1 + … + w_N · light_N is the same sum of the N pictures.

An environment that is finer than the lights (a bare sun, a window's edge) cannot be made of them. What is composed then
is the nearest environment that can be, and *that* one is handed back to be written beside the picture, so picture and
environment always belong together to the last digit; only the softness of the light differs from what was drawn: a lamp
becomes as wide as one light (15° across for N = 200), never brighter or dimmer. "Nearest" is the Kullback-Leibler
divergence, found by the expectation-maximisation of emission tomography: it keeps every weight positive and the total
light exact, where least squares would ring around a sun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from delit_models.errors import DelitError
from delit_models.lat_long import direction_grid, resample_env, solid_angles

from .lights import ENV_HEIGHT, ENV_WIDTH

FEWEST_LIGHTS = 6
# A light's standard deviation in distances between neighbours: wider and neighbours tell little apart, narrower and
# the seams between them show in the composed environment.
_WIDTH = 0.42
# Weights are found on a coarser map, whose rows are about this share of the distance between lights.
_FIT_ROW = 0.45
_FIT_STEPS = 40
# Longer steps than plain expectation maximisation takes; up to 2 they still converge.
_FIT_STRIDE = 1.7
# What is fainter than this, against the brightest, is nothing: numbers near zero are slow to compute with.
_FAINT = 1e-7


@dataclass(frozen=True)
class LightStage:
    """N lights that share the sphere.

    Attributes:
        directions: unit vectors towards the lights in camera axes, [N, 3].
        lights: radiance of each, [N, 128, 256] float32 in 0..1; they sum to 1 at every pixel.
    """

    directions: np.ndarray
    lights: Tensor

    @property
    def count(self) -> int:
        return len(self.directions)

    @property
    def irradiance(self) -> np.ndarray:
        """Radiance of each light integrated over the sphere, [N]; 4 pi together."""
        return (self.lights.double() * solid_angles(ENV_HEIGHT, ENV_WIDTH)).sum((1, 2)).numpy()

    def weights(self, radiance: np.ndarray) -> np.ndarray:
        """The non-negative weights [N, 3] whose environment is nearest to a map [128, 256, 3], with the same total
        light. A map that was made of the lights gives back its weights' environment."""
        coarse, area = self._coarse
        rows = int(np.sqrt(len(area) / 2))
        target = resample_env(torch.from_numpy(np.ascontiguousarray(radiance)), rows, 2 * rows)
        target = rearrange(target, "h w c -> (h w) c").clamp(min=0)
        # Each light begins with the mean radiance under its own profile.
        profile = (coarse / (coarse @ area)) * area[:, 0]
        weights = profile @ target
        floor = 1e-6 * float(target.mean().clamp(min=1e-20))
        with _one_thread():
            for _ in range(_FIT_STEPS):
                ratio = target / (coarse.T @ weights).clamp(min=floor)
                weights = weights * (profile @ ratio) ** _FIT_STRIDE
                weights = torch.where(weights < _FAINT * weights.max(), 0.0, weights)
        before, after = (target * area).sum(0), (coarse.T @ weights * area).sum(0)
        return (weights * torch.where(after > 0, before / after.clamp(min=1e-20), 0.0)).numpy()

    def environment(self, weights: np.ndarray) -> np.ndarray:
        """The map [128, 256, 3] that the lights make with weights [N, 3]."""
        flat = rearrange(self.lights, "n h w -> (h w) n") @ torch.from_numpy(np.float32(weights))
        return rearrange(flat, "(h w) c -> h w c", h=ENV_HEIGHT).numpy()

    @cached_property
    def _coarse(self) -> tuple[Tensor, Tensor]:
        """The lights on the coarser map, [N, pixels], and its pixels' solid angles, [pixels, 1]."""
        spacing = np.sqrt(4 * np.pi / self.count)
        rows = next(
            rows
            for rows in (16, 32, 64, ENV_HEIGHT)
            if rows == ENV_HEIGHT or np.pi / rows < _FIT_ROW * spacing
        )
        lights = resample_env(self.lights[..., None], rows, 2 * rows)
        return rearrange(lights, "n h w 1 -> n (h w)"), rearrange(
            solid_angles(rows, 2 * rows), "h w -> (h w) 1"
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: for products this small, several wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def stage_around(directions: Sequence[Sequence[float]] | np.ndarray) -> LightStage:
    """The stage with lights in given directions, [N, 3] of any length but zero, in camera axes.

    Where a real stage has no lamps (the floor, often), the nearest ones stand in for the missing.
    Raises DelitError for fewer than 6 directions, one that is not of three numbers, a zero or infinite one, or two that
    are the same.
    """
    if len(directions) < FEWEST_LIGHTS:
        raise DelitError(
            f"A light stage needs {FEWEST_LIGHTS} or more lights with a direction x, y, z each, got {len(directions)}."
        )
    towards = np.stack([_three_numbers(light, direction) for light, direction in enumerate(directions)])
    length = np.linalg.norm(towards, axis=1, keepdims=True)
    if not np.isfinite(length).all() or length.min() < 1e-6:
        raise DelitError(
            f"Light {int(np.argmin(np.nan_to_num(length)))} has no direction: give the vector from the subject to it."
        )
    towards = towards / length
    spacing = _median_spacing(towards)
    # 1 - cos is half the squared angle, and stays exact for small ones.
    grid = direction_grid(ENV_HEIGHT, ENV_WIDTH).double()
    closeness = torch.einsum("h w c, n c -> n h w", grid, torch.from_numpy(towards)) - 1
    lights = torch.softmax(closeness / (_WIDTH * spacing) ** 2, dim=0).float()
    lights = torch.where(lights < _FAINT, 0.0, lights)
    return LightStage(towards.astype(np.float32), lights)


def _three_numbers(light: int, direction: object) -> np.ndarray:
    """A light's direction as given, [3]."""
    try:
        towards = np.asarray(direction, np.float64)
    except (TypeError, ValueError):
        towards = None
    if towards is None or towards.shape != (3,):
        raise DelitError(f"The direction of light {light} is {direction}; give three numbers, x, y, z.")
    return towards


@lru_cache(maxsize=2)
def even_stage(count: int) -> LightStage:
    """The stage of `count` lights spread evenly over the sphere, on a golden-angle spiral."""
    if count < FEWEST_LIGHTS:
        raise DelitError(f"A light stage of {count} lights was asked for; it needs {FEWEST_LIGHTS} or more.")
    index = np.arange(count) + 0.5
    height = 1 - 2 * index / count
    turn = np.pi * (3 - np.sqrt(5)) * index
    radius = np.sqrt(1 - height**2)
    return stage_around(np.stack([radius * np.sin(turn), height, -radius * np.cos(turn)], axis=1))


def _median_spacing(directions: np.ndarray) -> float:
    """Median angle from a light to its nearest neighbour, radians."""
    cosine = directions @ directions.T
    np.fill_diagonal(cosine, -1.0)
    nearest = np.arccos(np.clip(cosine.max(1), -1.0, 1.0))
    if nearest.min() < 1e-3:
        raise DelitError(
            f"Light {int(nearest.argmin())} lies in the same direction as another; give each picture its own."
        )
    return float(np.median(nearest))


@dataclass(frozen=True)
class Transport:
    """A subject's light transport: its picture under each light of a stage.

    Attributes:
        stage: the lights.
        pictures: [N, S, S, 3] float16, linear, multiplied by coverage. Half floats, as they are stored, so that
            transport read back from a file composes the very same pictures.
        coverage: of the subject, [S, S] float32 in 0..1, in steps of 1/255 for the same reason.
    """

    stage: LightStage
    pictures: np.ndarray
    coverage: np.ndarray

    def compose(self, weights: np.ndarray) -> np.ndarray:
        """The picture under the sum of the lights by weights [N, 3] -> [S, S, 4] float32: linear, and coverage."""
        total = np.zeros(self.pictures.shape[1:], np.float32)
        for picture, weight in zip(self.pictures, np.float32(weights), strict=True):
            if weight.any():
                total += picture * weight
        return np.concatenate([total, self.coverage[..., None]], axis=-1)

    def flat(self) -> np.ndarray:
        """The picture under uniform radiance 1, [S, S, 4]: the plain sum of all."""
        return self.compose(np.ones((self.stage.count, 3)))

    def relight(self, radiance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The picture [S, S, 4] under a map [128, 256, 3], and the map that it is really under: the nearest one that
        the lights can make."""
        weights = self.stage.weights(radiance)
        return self.compose(weights), self.stage.environment(weights)


def measure_transport(stage: LightStage, render: Callable[[np.ndarray, int], np.ndarray]) -> Transport:
    """Renders the subject under each light of a stage.

    render: (radiance [128, 256, 3], number of the light) -> [S, S, 4], linear times coverage, and coverage.
    """
    pictures, coverage = [], 0.0
    for number, light in enumerate(stage.lights.numpy()):
        image = render(np.repeat(light[..., None], 3, axis=-1), number)
        pictures.append(image[..., :3].astype(np.float16))
        coverage = coverage + np.clip(image[..., 3], 0.0, 1.0) / stage.count
    return masked_transport(stage, np.stack(pictures), coverage)


def masked_transport(stage: LightStage, pictures: np.ndarray, coverage: np.ndarray) -> Transport:
    """Transport with nothing outside the mask: pictures [N, S, S, 3] float16, coverage [S, S] in 0..1."""
    codes = np.rint(np.clip(coverage, 0.0, 1.0) * 255)
    return Transport(stage, pictures * (codes > 0)[..., None], codes.astype(np.float32) / np.float32(255))
