"""Procedural light: photographers' studios, windows, skies and streets at night, as lat-longs in camera axes.

A studio is a function from a Stage (directions, a room, a key colour, random numbers) to radiance [128, 256, 3] in
arbitrary units. A new one is a function and a line in STUDIOS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from delit_models.errors import DelitError
from delit_models.lat_long import direction_grid

from .skies import clear_sky

ENV_HEIGHT, ENV_WIDTH = 128, 256


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector in camera axes; azimuth 0 is the camera's side of the subject, positive to the image's right;
    180 is behind the subject. Degrees."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])


def _soft_edge(value: np.ndarray, edge: float) -> np.ndarray:
    t = np.clip(value / edge + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _disc(directions: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """A round lamp of angular radius in degrees, soft at its edge; [H, W]. Never below the map's resolution."""
    angle = np.degrees(np.arccos(np.clip(directions @ centre, -1, 1)))
    return _soft_edge(radius - angle, max(1.4, 0.15 * radius))


def _panel(directions: np.ndarray, centre: np.ndarray, width: float, height: float) -> np.ndarray:
    """A rectangular panel facing the subject, half-sizes as tangents of angles; [H, W]."""
    side = np.cross([0.0, 1.0, 0.0], centre)
    side /= max(np.linalg.norm(side), 1e-6)
    up = np.cross(centre, side)
    depth = directions @ centre
    safe = np.maximum(depth, 1e-3)
    inside = np.minimum(width - np.abs(directions @ side / safe), height - np.abs(directions @ up / safe))
    return _soft_edge(inside, 0.05) * (depth > 0.05)


def _temperature(kelvin: float) -> np.ndarray:
    """Approximate linear Rec.709 colour of a lamp, green 1: warm below 6500 K, cool above."""
    warmth = np.log(6500.0 / kelvin)
    return np.array([np.exp(0.75 * warmth), 1.0, np.exp(-1.25 * warmth)])


def _gel(rng: np.random.Generator) -> np.ndarray:
    """A saturated lamp colour of about unit luminance."""
    wheel = np.clip(np.abs(((rng.random() * 6 + np.array([0, 4, 2])) % 6) - 3) - 1, 0, 1)
    colour = 0.06 + wheel**1.3 * rng.uniform(0.6, 1.0)
    return colour / (colour @ np.array([0.2126, 0.7152, 0.0722])) ** 0.7


def _room(directions: np.ndarray, rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Dim surroundings: floor, walls and ceiling in slightly different tones, with a few large soft patches."""
    floor, wall, ceiling = rng.uniform(0.3, 1.0), rng.uniform(0.5, 1.0), rng.uniform(0.6, 1.4)
    y = directions[..., 1]
    tone = wall + (ceiling - wall) * _soft_edge(y - 0.5, 0.5) + (floor - wall) * _soft_edge(-y - 0.35, 0.4)
    for _ in range(int(rng.integers(2, 7))):
        patch = _direction(rng.uniform(-180, 180), rng.uniform(-40, 50))
        tone = tone * (
            1
            + rng.uniform(-0.6, 1.0) * _panel(directions, patch, rng.uniform(0.1, 0.7), rng.uniform(0.1, 0.7))
        )
    return tone[..., None] * colour


@dataclass(frozen=True)
class Stage:
    """What a studio is built from.

    Attributes:
        directions: [128, 256, 3], unit vectors in camera axes.
        rng: where its random numbers come from.
        side: -1 or 1, the side of the key light.
        key_colour: linear Rec.709 [3] of about luminance 1.
        room: dim surroundings, [128, 256, 3] of about radiance 1.
    """

    directions: np.ndarray
    rng: np.random.Generator
    side: float
    key_colour: np.ndarray
    room: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Stage:
        directions = direction_grid(ENV_HEIGHT, ENV_WIDTH).numpy().astype(np.float64)
        side = float(rng.choice([-1, 1]))
        key_colour = _temperature(rng.uniform(3000, 8000))
        return cls(
            directions, rng, side, key_colour, _room(directions, rng, _temperature(rng.uniform(3200, 8500)))
        )

    def disc(
        self, azimuth: float, elevation: float, radius: float, strength: float, colour: np.ndarray
    ) -> np.ndarray:
        """A round lamp; angles in degrees. strength is its irradiance, so that small lamps are brighter, not weaker."""
        solid_angle = 2 * np.pi * (1 - np.cos(np.radians(radius)))
        lamp = _disc(self.directions, _direction(azimuth, elevation), radius)
        return (strength / solid_angle * lamp)[..., None] * colour

    def panel(
        self,
        azimuth: float,
        elevation: float,
        width: float,
        height: float,
        strength: float,
        colour: np.ndarray,
    ) -> np.ndarray:
        """A rectangular lamp; angles in degrees, half-sizes as tangents, strength as in disc."""
        lamp = _panel(self.directions, _direction(azimuth, elevation), width, height)
        return (strength / (4 * width * height) * lamp)[..., None] * colour


def _softbox(stage: Stage) -> np.ndarray:
    rng, side, colour = stage.rng, stage.side, stage.key_colour
    key = stage.panel(
        side * rng.uniform(15, 75),
        rng.uniform(10, 50),
        rng.uniform(0.2, 0.6),
        rng.uniform(0.2, 0.7),
        3.0,
        colour,
    )
    fill = stage.panel(
        -side * rng.uniform(30, 80), rng.uniform(-5, 30), 0.6, 0.6, rng.uniform(0.1, 1.0), colour
    )
    hair = stage.disc(
        -side * rng.uniform(130, 170),
        rng.uniform(20, 50),
        6,
        rng.choice([0.0, rng.uniform(0.3, 1.5)]),
        colour,
    )
    return stage.room * rng.uniform(0.02, 0.2) + key + fill + hair


def _rim(stage: Stage) -> np.ndarray:
    rng, colour = stage.rng, stage.key_colour
    first = stage.panel(rng.uniform(110, 155), rng.uniform(0, 35), 0.15, 0.6, rng.uniform(1.5, 4), colour)
    azimuth, elevation, strength = -rng.uniform(110, 155), rng.uniform(0, 35), rng.uniform(0.3, 4)
    second = stage.panel(azimuth, elevation, 0.15, 0.6, strength, _temperature(rng.uniform(3000, 9000)))
    front = stage.panel(rng.uniform(-40, 40), rng.uniform(0, 30), 0.5, 0.5, rng.uniform(0.3, 1.2), colour)
    return stage.room * rng.uniform(0.02, 0.12) + first + second + front


def _gels(stage: Stage) -> np.ndarray:
    rng, side = stage.rng, stage.side

    def place(nearest: float, farthest: float) -> tuple[float, float, float, float]:
        azimuth = rng.uniform(nearest, farthest)
        return azimuth, rng.uniform(-10, 35), rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.6)

    azimuth, *shape = place(25, 95)
    first = stage.panel(side * azimuth, *shape, 2.0, _gel(rng))
    azimuth, *shape = place(25, 120)
    second = stage.panel(-side * azimuth, *shape, rng.uniform(0.7, 2.0), _gel(rng))
    return stage.room * rng.uniform(0.02, 0.15) + first + second


def _window(stage: Stage) -> np.ndarray:
    rng = stage.rng
    sky = _temperature(rng.uniform(6500, 11000))
    window = stage.panel(
        stage.side * rng.uniform(40, 115),
        rng.uniform(-5, 20),
        rng.uniform(0.25, 0.8),
        rng.uniform(0.35, 0.9),
        4.0,
        sky,
    )
    return stage.room * _temperature(rng.uniform(2600, 4500)) * rng.uniform(0.05, 0.35) + window


def _hard_key(stage: Stage) -> np.ndarray:
    rng = stage.rng
    azimuth, elevation, radius = stage.side * rng.uniform(0, 85), rng.uniform(5, 60), rng.uniform(1.8, 4)
    return stage.room * rng.uniform(0.01, 0.15) + stage.disc(
        azimuth, elevation, radius, 4.0, stage.key_colour
    )


def _back_lit(stage: Stage) -> np.ndarray:
    rng = stage.rng
    azimuth, elevation, radius = 180 + rng.uniform(-45, 45), rng.uniform(-5, 35), rng.uniform(8, 40)
    return stage.room * rng.uniform(0.1, 0.45) + stage.disc(azimuth, elevation, radius, 5.0, stage.key_colour)


def _overcast(stage: Stage) -> np.ndarray:
    rng, y = stage.rng, stage.directions[..., 1:2]
    ground = np.array([0.25, 0.22, 0.18]) * rng.uniform(0.3, 1.6, 3)
    sky = _temperature(rng.uniform(6000, 9500)) * (0.6 + 0.8 * np.maximum(y, 0))
    blend = _soft_edge(y + rng.uniform(-0.05, 0.05), 0.08)
    return ground * (1 - blend) + sky * blend + 0.1 * stage.room


def _lamps(stage: Stage) -> np.ndarray:
    rng = stage.rng
    total = stage.room * rng.uniform(0.02, 0.12)
    for _ in range(int(rng.integers(3, 9))):
        colour = _gel(rng) if rng.random() < 0.5 else _temperature(rng.uniform(2200, 7000))
        azimuth, elevation, radius = rng.uniform(-180, 180), rng.uniform(-15, 60), rng.uniform(1.8, 7)
        total = total + stage.disc(azimuth, elevation, radius, rng.uniform(0.3, 2), colour)
    return total


def _bare_lamp(stage: Stage) -> np.ndarray:
    """One lamp in the dark, from a point to a window: what any other light can be mixed from in training."""
    rng = stage.rng
    # Most lamps that matter to a face stand before it.
    azimuth = rng.uniform(-180, 180) if rng.random() < 0.35 else rng.normal(0, 55)
    radius = np.exp(rng.uniform(np.log(1.4), np.log(25)))
    lamp = stage.disc(azimuth, rng.uniform(-20, 75), radius, 4.0, stage.key_colour)
    return stage.room * rng.uniform(0.0, 0.03) + lamp


def _sun_and_sky(stage: Stage) -> np.ndarray:
    rng = stage.rng
    # Low suns are likelier: people are not photographed at noon if it can be helped.
    azimuth, elevation = rng.uniform(-180, 180), 3 + 62 * rng.beta(1.1, 1.9)
    albedo = np.array([0.3, 0.25, 0.18]) * rng.uniform(0.4, 1.8)
    sky = clear_sky(
        stage.directions, _direction(azimuth, elevation), float(rng.uniform(2, 9)), float(albedo.mean())
    )
    # A cloud or a tree before the sun, now and then.
    veil = rng.choice([1.0, rng.uniform(0.05, 1.0)], p=[0.7, 0.3])
    sun = stage.disc(azimuth, elevation, 1.8, float(veil), sky.sun_irradiance)
    above = _soft_edge(stage.directions[..., 1:2], 0.03)
    return sky.radiance * above + albedo / np.pi * sky.horizontal_irradiance * (1 - above) + sun


STUDIOS: dict[str, Callable[[Stage], np.ndarray]] = {
    "softbox": _softbox,
    "rim": _rim,
    "gels": _gels,
    "window": _window,
    "hard key": _hard_key,
    "bare lamp": _bare_lamp,
    "back-lit": _back_lit,
    "overcast": _overcast,
    "lamps": _lamps,
    "sun and sky": _sun_and_sky,
}


def studio(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A procedural environment [128, 256, 3] by name (see STUDIOS), in camera axes, in arbitrary units."""
    if kind not in STUDIOS:
        raise DelitError(f"There is no studio {kind!r}; choose one of {', '.join(STUDIOS)}.")
    return STUDIOS[kind](Stage.draw(rng))
