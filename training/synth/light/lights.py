"""Light for the stage: HDRIs and procedural studios (studios.py), as lat-long maps in the camera frame.

All maps are float32 [128, 256, 3], linear Rec.709, laid out as in delit_models.lat_long: the centre is straight ahead
of the camera, behind the subject; light on a face that looks into the camera comes from the map's outer quarters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from delit_models.atomic_write import is_hidden
from delit_models.errors import DelitError
from delit_models.image_files import read_env_map
from delit_models.lat_long import resample_env, rotate_env

from .studios import ENV_HEIGHT, ENV_WIDTH, STUDIOS, studio

SHIPPED_HDRI_DIR = Path(__file__).resolve().parents[2] / "hdris"
TEST_HDRIS = ("city", "lobby", "studio", "sunset")
_STUDIO_SHARE = 0.6
# Small and single lamps are what training mixes other lights from, and what casts the shadows to be taken off.
_LIKELIER = {"bare lamp": 3.0, "hard key": 1.5}


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
    files = sorted(
        path for path in folder.glob("*") if path.suffix.lower() in (".exr", ".hdr") and not is_hidden(path)
    )
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
        shares = np.array([_LIKELIER.get(kind, 1.0) for kind in STUDIOS])
        kind = str(rng.choice(list(STUDIOS), p=shares / shares.sum()))
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
