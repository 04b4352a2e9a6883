"""What a subject is, whatever light falls on it: albedo, normals and depth of every pixel, from one cheap pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from delit_models.color import linear_to_srgb
from delit_models.image_files import write_image

from .exr_files import write_exr

TRUTH_CONVENTIONS = {
    "albedo": "8-bit sRGB PNG: diffuse reflectance, black outside the mask, multiplied by coverage at its edge",
    "normals": "half-float EXR, R G B = X Y Z of the unit normal in camera axes (+X right, +Y up, +Z towards the "
    "camera), in -1..1; zero outside the mask",
    "depth": "float EXR, channel Z: metres from the camera along its axis (not along the ray), the mean of what the "
    "pixel shows of the subject; zero outside the mask",
}
"""The three files of a subject, for dataset.json."""


@dataclass(frozen=True)
class SurfaceTruth:
    """What the camera sees of a subject's surface; zero outside the mask.

    Attributes:
        albedo: [S, S, 3] linear diffuse reflectance in 0..1, multiplied by coverage.
        normals: [S, S, 3] unit vectors in camera axes.
        depth: [S, S] metres along the camera's axis.
    """

    albedo: np.ndarray
    normals: np.ndarray
    depth: np.ndarray

    @classmethod
    def of_pixels(
        cls, coverage: np.ndarray, albedo: np.ndarray, position: np.ndarray, normals: np.ndarray
    ) -> SurfaceTruth:
        """From means over the rays of each pixel, rays that miss counting as zero: coverage [S, S] in 0..1, and
        [S, S, 3] each of albedo, position in metres and normal, in camera axes."""
        # The inside of a sleeve is seen from its back: the side that shows is the one that faces the camera.
        away = (normals * position).sum(-1, keepdims=True) > 0
        normals = np.where(away, -normals, normals)
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        seen = coverage > 0
        return cls(
            albedo=np.clip(np.where(seen[..., None], albedo, 0.0), 0.0, 1.0),
            normals=np.where(seen[..., None] & (length > 1e-6), normals / np.maximum(length, 1e-6), 0.0),
            depth=np.where(seen, -position[..., 2] / np.maximum(coverage, 1e-6), 0.0),
        )


def write_truth(root: Path, folder: str, truth: SurfaceTruth, mask: np.ndarray) -> dict[str, str]:
    """Writes albedo.png, normals.exr and depth.exr under root / folder; returns their paths for the index line.

    mask: [S, S, 1] coverage as it is written; where its 8-bit code is 0, so are all three.
    """
    seen = np.rint(mask * 255) > 0
    paths = {
        "albedo": f"{folder}/albedo.png",
        "normals": f"{folder}/normals.exr",
        "depth": f"{folder}/depth.exr",
    }
    albedo = torch.from_numpy((truth.albedo * seen).astype(np.float32))
    write_image(root / paths["albedo"], linear_to_srgb(albedo))
    write_exr(root / paths["normals"], (truth.normals * seen).astype(np.float16), ("R", "G", "B"))
    write_exr(root / paths["depth"], (truth.depth[..., None] * seen).astype(np.float32), ("Z",))
    return paths
