"""Light for the stage: the shipped HDRIs and procedural studios, as lat-long maps in the camera frame.

All maps are float32 [128, 256, 3], linear Rec.709, laid out as in delit_models.lat_long: the centre is straight ahead
of the camera, behind the subject; light on a face that looks into the camera comes from the map's outer quarters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from delit_models.errors import DelitError
from delit_models.image_files import read_env_map
from delit_models.lat_long import direction_grid, resample_env, rotate_env

ENV_HEIGHT, ENV_WIDTH = 128, 256
SHIPPED_HDRI_DIR = Path(__file__).resolve().parent.parent / "hdris"
TEST_HDRIS = ("city", "lobby", "studio", "sunset")
STUDIOS = ("softbox", "rim", "gels", "window", "hard key", "back-lit", "overcast", "lamps", "low sun")
_STUDIO_SHARE = 0.5


@dataclass(frozen=True)
class Light:
    """One environment: radiance [128, 256, 3] in the camera frame before exposure; kind "hdri" or a studio's name;
    source, the HDRI's name or "procedural"."""

    radiance: np.ndarray
    kind: str
    source: str


def hdri_names(folder: Path, split: str) -> list[Path]:
    """The HDRI files of a split ("train" or "test"): TEST_HDRIS, by file stem, are the test split of any folder;
    a folder that has none of them gives every fourth file, in name order, to the test split.

    Raises DelitError for a folder without .exr or .hdr files, or too few to share between the splits.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".exr", ".hdr"))
    if len(files) < 2:
        raise DelitError(
            f"{folder} holds {len(files)} .exr or .hdr files; at least 2 are needed, one a split."
        )
    test = {path for path in files if path.stem in TEST_HDRIS}
    if not test or len(test) == len(files):
        test = set(files[::4])
    return [path for path in files if (path in test) == (split == "test")]


@lru_cache(maxsize=64)
def _load_hdri(path: Path) -> np.ndarray:
    return resample_env(read_env_map(path).radiance, ENV_HEIGHT, ENV_WIDTH).clamp(min=0).numpy()


def camera_rotation(pitch: float, roll: float) -> np.ndarray:
    """Rotation [3, 3] from level (yaw-aligned, +Y up) to camera axes, for a camera tilted up by pitch degrees and
    rolled clockwise by roll degrees."""
    p, r = np.radians(pitch), np.radians(roll)
    tilt = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    turn = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return turn @ tilt


def sample_light(rng: np.random.Generator, split: str, hdri_dir: Path, level_to_camera: np.ndarray) -> Light:
    """Draws an environment for a split. Test studios differ from training ones by their random numbers only;
    HDRIs are never shared."""
    if rng.random() < _STUDIO_SHARE:
        kind = str(rng.choice(STUDIOS))
        return Light(_tidy(studio(kind, rng)), kind, "procedural")
    path = hdri_names(hdri_dir, split)[rng.integers(len(hdri_names(hdri_dir, split)))]
    level = _load_hdri(path)
    level = np.roll(level, int(rng.integers(ENV_WIDTH)), axis=1)
    if rng.random() < 0.5:
        level = level[:, ::-1]
    level = level * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    turned = rotate_env(torch.from_numpy(level.copy()), torch.from_numpy(level_to_camera).float())
    return Light(_tidy(turned.numpy()), "hdri", path.stem)


def _tidy(radiance: np.ndarray) -> np.ndarray:
    """Finite, non-negative float32, normalised to mean radiance 1 over the sphere."""
    radiance = np.nan_to_num(np.maximum(radiance, 0.0), posinf=6e4).astype(np.float32)
    weight = np.cos((0.5 - (np.arange(ENV_HEIGHT) + 0.5) / ENV_HEIGHT) * np.pi)[:, None]
    mean = (radiance.mean(-1) * weight).sum() / (weight.sum() * ENV_WIDTH)
    return radiance / np.float32(max(mean, 1e-6))


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


def studio(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A procedural environment [128, 256, 3] by name (see STUDIOS), in camera axes, in arbitrary units."""
    directions = direction_grid(ENV_HEIGHT, ENV_WIDTH).numpy().astype(np.float64)
    side = float(rng.choice([-1, 1]))
    key_colour = _temperature(rng.uniform(3000, 8000))
    ambient = _room(directions, rng, _temperature(rng.uniform(3200, 8500)))

    def disc(
        azimuth: float, elevation: float, radius: float, strength: float, colour: np.ndarray
    ) -> np.ndarray:
        # strength is the lamp's irradiance, so that small lamps are brighter, not weaker.
        solid_angle = 2 * np.pi * (1 - np.cos(np.radians(radius)))
        lamp = _disc(directions, _direction(azimuth, elevation), radius)
        return (strength / solid_angle * lamp)[..., None] * colour

    def panel(
        azimuth: float, elevation: float, width: float, height: float, strength: float, colour: np.ndarray
    ):
        lamp = _panel(directions, _direction(azimuth, elevation), width, height)
        return (strength / (4 * width * height) * lamp)[..., None] * colour

    if kind == "softbox":
        key = panel(
            side * rng.uniform(15, 75),
            rng.uniform(10, 50),
            rng.uniform(0.2, 0.6),
            rng.uniform(0.2, 0.7),
            3.0,
            key_colour,
        )
        fill = panel(
            -side * rng.uniform(30, 80), rng.uniform(-5, 30), 0.6, 0.6, rng.uniform(0.1, 1.0), key_colour
        )
        hair = disc(
            -side * rng.uniform(130, 170),
            rng.uniform(20, 50),
            6,
            rng.choice([0.0, rng.uniform(0.3, 1.5)]),
            key_colour,
        )
        return ambient * rng.uniform(0.02, 0.2) + key + fill + hair
    if kind == "rim":
        first = panel(rng.uniform(110, 155), rng.uniform(0, 35), 0.15, 0.6, rng.uniform(1.5, 4), key_colour)
        second = panel(
            -rng.uniform(110, 155),
            rng.uniform(0, 35),
            0.15,
            0.6,
            rng.uniform(0.3, 4),
            _temperature(rng.uniform(3000, 9000)),
        )
        front = panel(rng.uniform(-40, 40), rng.uniform(0, 30), 0.5, 0.5, rng.uniform(0.3, 1.2), key_colour)
        return ambient * rng.uniform(0.02, 0.12) + first + second + front
    if kind == "gels":
        first = panel(
            side * rng.uniform(25, 95),
            rng.uniform(-10, 35),
            rng.uniform(0.1, 0.5),
            rng.uniform(0.2, 0.6),
            2.0,
            _gel(rng),
        )
        second = panel(
            -side * rng.uniform(25, 120),
            rng.uniform(-10, 35),
            rng.uniform(0.1, 0.5),
            rng.uniform(0.2, 0.6),
            rng.uniform(0.7, 2.0),
            _gel(rng),
        )
        return ambient * rng.uniform(0.02, 0.15) + first + second
    if kind == "window":
        sky = _temperature(rng.uniform(6500, 11000))
        window = panel(
            side * rng.uniform(40, 115),
            rng.uniform(-5, 20),
            rng.uniform(0.25, 0.8),
            rng.uniform(0.35, 0.9),
            4.0,
            sky,
        )
        warm = ambient * _temperature(rng.uniform(2600, 4500)) * rng.uniform(0.05, 0.35)
        return warm + window
    if kind == "hard key":
        key = disc(side * rng.uniform(0, 85), rng.uniform(5, 60), rng.uniform(1.8, 4), 4.0, key_colour)
        return ambient * rng.uniform(0.01, 0.15) + key
    if kind == "back-lit":
        back = disc(180 + rng.uniform(-45, 45), rng.uniform(-5, 35), rng.uniform(8, 40), 5.0, key_colour)
        return ambient * rng.uniform(0.1, 0.45) + back
    if kind == "overcast":
        y = directions[..., 1:2]
        ground = np.array([0.25, 0.22, 0.18]) * rng.uniform(0.3, 1.6, 3)
        sky = _temperature(rng.uniform(6000, 9500)) * (0.6 + 0.8 * np.maximum(y, 0))
        blend = _soft_edge(y + rng.uniform(-0.05, 0.05), 0.08)
        return ground * (1 - blend) + sky * blend + 0.1 * ambient
    if kind == "lamps":
        total = ambient * rng.uniform(0.02, 0.12)
        for _ in range(int(rng.integers(3, 9))):
            colour = _gel(rng) if rng.random() < 0.5 else _temperature(rng.uniform(2200, 7000))
            total = total + disc(
                rng.uniform(-180, 180), rng.uniform(-15, 60), rng.uniform(1.8, 7), rng.uniform(0.3, 2), colour
            )
        return total
    if kind == "low sun":
        azimuth, elevation = rng.uniform(-180, 180), rng.uniform(4, 40)
        sun = disc(azimuth, elevation, 1.8, rng.uniform(1.5, 7), _temperature(rng.uniform(2600, 5200)))
        glow = disc(azimuth, elevation, 45, rng.uniform(0.3, 1.2), _temperature(rng.uniform(3000, 5500)))
        y = directions[..., 1:2]
        ground = np.array([0.3, 0.25, 0.18]) * rng.uniform(0.4, 1.5)
        sky = _temperature(rng.uniform(7500, 14000)) * (0.8 - 0.4 * np.maximum(y, 0)) * rng.uniform(0.2, 0.9)
        blend = _soft_edge(y, 0.05)
        return ground * (1 - blend) + sky * blend + sun + glow
    raise DelitError(f"There is no studio {kind!r}; choose one of {', '.join(STUDIOS)}.")
