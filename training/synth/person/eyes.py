"""Eyeballs: sclera, iris and pupil painted on a ball with a cornea's bulge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from training.synth.render.surface import Surface, grid_faces, merged, painted

from .people import PersonMesh
from .regions import smooth_step

_IRIS_COLOURS = {
    "dark brown": (0.030, 0.014, 0.008),
    "brown": (0.075, 0.036, 0.016),
    "hazel": (0.12, 0.080, 0.030),
    "green": (0.085, 0.105, 0.055),
    "blue": (0.085, 0.140, 0.205),
    "grey": (0.135, 0.160, 0.175),
}
_ROUGHNESS = 0.06
_RINGS, _SLICES = 64, 64


@dataclass(frozen=True)
class EyeStyle:
    """iris_colour and sclera: linear albedo; pupil_angle and iris_angle: half-angles seen from the eye's centre, in
    radians; redness 0..1."""

    iris: str
    iris_colour: tuple[float, float, float]
    sclera: tuple[float, float, float]
    pupil_angle: float
    iris_angle: float
    redness: float


def sample_eye_style(rng: np.random.Generator, melanin: float) -> EyeStyle:
    """Draws a pair of eyes. Light irises mostly come with light skin (melanin 0..1.9)."""
    light = max(0.0, 1.0 - melanin)
    odds = np.array([1.0, 1.0, 0.7 * light, 0.5 * light, 0.9 * light, 0.5 * light])
    name = str(rng.choice(list(_IRIS_COLOURS), p=odds / odds.sum()))
    colour = np.array(_IRIS_COLOURS[name]) * rng.uniform(0.75, 1.3)
    sclera = np.array([0.56, 0.525, 0.49]) * rng.uniform(0.82, 1.0) * [1.0, 1.0, rng.uniform(0.93, 1.0)]
    return EyeStyle(
        iris=name,
        iris_colour=tuple(float(value) for value in colour),
        sclera=tuple(float(value) for value in sclera),
        pupil_angle=float(np.radians(rng.uniform(7.5, 11.5))),
        iris_angle=float(np.radians(rng.uniform(24.0, 26.5))),
        redness=float(rng.uniform(0.2, 1.0)),
    )


def build_eyes(style: EyeStyle, mesh: PersonMesh, rng: np.random.Generator) -> Surface:
    """Both eyeballs, looking along mesh.gaze, darker next to the lids as eyes are under lashes and in the tear film."""
    lids = cKDTree(mesh.vertices[_near_eyes(mesh)])
    balls = [
        _eyeball(style, centre, radius * 0.985, gaze, lids, rng)
        for centre, radius, gaze in zip(mesh.eye_centres, mesh.eye_radii, mesh.gaze, strict=True)
    ]
    return merged(balls)


def _near_eyes(mesh: PersonMesh) -> np.ndarray:
    """Indices of skin vertices within two eye radii of an eye."""
    distance = np.linalg.norm(mesh.vertices[:, None] - mesh.eye_centres, axis=2).min(1)
    return np.flatnonzero(distance < 2 * mesh.eye_radii.max())


def _eyeball(
    style: EyeStyle, centre: np.ndarray, radius: float, gaze: np.ndarray, lids: cKDTree, rng: np.random.Generator
) -> Surface:  # fmt: skip
    polar = np.concatenate(
        [np.linspace(1e-4, np.radians(34), 44), np.linspace(np.radians(36), np.pi - 1e-4, _RINGS - 44)]
    )
    azimuth = np.arange(_SLICES) * 2 * np.pi / _SLICES
    side = np.cross(gaze, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    up = np.cross(gaze, side)
    p, a = (grid.reshape(-1) for grid in np.meshgrid(polar, azimuth, indexing="ij"))
    outwards = (
        np.cos(p)[:, None] * gaze
        + (np.sin(p) * np.cos(a))[:, None] * side
        + (np.sin(p) * np.sin(a))[:, None] * up
    )
    # The cornea is steeper than the ball: highlights sit on it where they do on real eyes.
    bulge = 0.045 * np.clip(1.0 - (p / (1.15 * style.iris_angle)) ** 2, 0, 1)
    vertices = centre + radius * (1 + bulge)[:, None] * outwards
    shade = 0.5 + 0.5 * smooth_step(0.0, 0.0018, lids.query(vertices)[0])
    albedo = _paint(style, p, a, rng) * shade[:, None]
    return painted(vertices, grid_faces(_RINGS, _SLICES, closed=True), albedo, _ROUGHNESS)


def _paint(style: EyeStyle, polar: np.ndarray, azimuth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Albedo [V, 3] by angle from the gaze and around it, both [V] in radians."""
    share = np.clip((polar - style.pupil_angle) / (style.iris_angle - style.pupil_angle), 0, 1)
    knots = np.linspace(0, 2 * np.pi, 49)
    fibre_values = rng.standard_normal(49)
    fibre_values[-1] = fibre_values[0]
    fibres = 1.0 + 0.28 * np.interp(azimuth, knots, fibre_values)
    limbus = 1.0 - 0.75 * smooth_step(0.72, 1.0, share)
    collarette = 1.0 + 0.35 * np.exp(-(((share - 0.28) / 0.14) ** 2))
    iris = np.array(style.iris_colour) * (np.clip(fibres, 0.5, 1.6) * limbus * collarette)[:, None]
    away = smooth_step(np.radians(32), np.radians(75), polar)[:, None] * style.redness
    white = np.array(style.sclera) * (1 - away * np.array([0.12, 0.34, 0.36]))
    to_white = smooth_step(style.iris_angle * 0.95, style.iris_angle * 1.1, polar)[:, None]
    to_iris = smooth_step(style.pupil_angle * 0.92, style.pupil_angle * 1.08, polar)[:, None]
    return (0.004 * (1 - to_iris) + iris * to_iris) * (1 - to_white) + white * to_white
