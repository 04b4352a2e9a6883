"""Strands as thin three-sided tubes: one triangle mesh traces several times faster than curve primitives do, and
carries a colour per strand."""

from __future__ import annotations

import numpy as np

_SIDES = 3


def strand_tubes(points: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tubes around strands: points [N, K, 3], radii [N, K] -> vertices, normals [N*K*3, 3] and faces [F, 3].

    Normals point straight away from the strand, so that a tube shades round.
    """
    count, length = points.shape[:2]
    tangent = np.gradient(points, axis=1)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-9)
    reference = np.where(np.abs(tangent[:, :1, 2:]) < 0.9, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    side = np.cross(tangent, reference)
    side /= np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-9)
    other = np.cross(tangent, side)
    angle = np.arange(_SIDES) * 2 * np.pi / _SIDES
    normals = (
        np.cos(angle)[:, None] * side[:, :, None] + np.sin(angle)[:, None] * other[:, :, None]
    )  # [N, K, sides, 3]
    vertices = points[:, :, None] + radii[:, :, None, None] * normals
    return vertices.reshape(-1, 3), normals.reshape(-1, 3), _tube_faces(count, length)


def _tube_faces(count: int, length: int) -> np.ndarray:
    ring = np.arange(length - 1)[:, None] * _SIDES + np.arange(_SIDES)
    following = np.arange(length - 1)[:, None] * _SIDES + (np.arange(_SIDES) + 1) % _SIDES
    pattern = np.concatenate(
        [
            np.stack([ring, ring + _SIDES, following], -1).reshape(-1, 3),
            np.stack([following, ring + _SIDES, following + _SIDES], -1).reshape(-1, 3),
        ]
    )
    offsets = np.arange(count)[:, None, None] * (length * _SIDES)
    return (pattern[None] + offsets).reshape(-1, 3)
