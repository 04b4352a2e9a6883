"""Strands as thin tubes: one triangle mesh traces several times faster than curve primitives do, and carries a
colour per strand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.synth.render.surface import Surface

_SIDES = 3


@dataclass(frozen=True)
class Strands:
    """points [N, K, 3] of N strands with K control points, radii [N, K] in metres, colours [N, 3] linear albedo."""

    points: np.ndarray
    radii: np.ndarray
    colours: np.ndarray

    def only(self, keep: np.ndarray) -> Strands:
        """The strands that keep [N] says."""
        return Strands(self.points[keep], self.radii[keep], self.colours[keep])


def strand_surface(strands: Strands, roughness: float, sides: int = _SIDES) -> Surface:
    """The strands as tubes with the given number of sides."""
    vertices, normals, faces = strand_tubes(strands.points, strands.radii, sides)
    albedo = np.repeat(strands.colours, strands.points.shape[1] * sides, axis=0)
    return Surface(vertices, normals, faces, albedo, np.full(len(vertices), float(roughness)))


def strand_tubes(
    points: np.ndarray, radii: np.ndarray, sides: int = _SIDES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tubes around strands: points [N, K, 3], radii [N, K] -> vertices, normals [N*K*sides, 3] and faces [F, 3].

    Normals point straight away from the strand, so that a tube shades round.
    """
    count, length = points.shape[:2]
    tangent = np.gradient(points, axis=1)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-9)
    reference = np.where(np.abs(tangent[:, :1, 2:]) < 0.9, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    side = np.cross(tangent, reference)
    side /= np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-9)
    other = np.cross(tangent, side)
    angle = np.arange(sides) * 2 * np.pi / sides
    normals = (
        np.cos(angle)[:, None] * side[:, :, None] + np.sin(angle)[:, None] * other[:, :, None]
    )  # [N, K, sides, 3]
    vertices = points[:, :, None] + radii[:, :, None, None] * normals
    return vertices.reshape(-1, 3), normals.reshape(-1, 3), _tube_faces(count, length, sides)


def _tube_faces(count: int, length: int, sides: int) -> np.ndarray:
    ring = np.arange(length - 1)[:, None] * sides + np.arange(sides)
    following = np.arange(length - 1)[:, None] * sides + (np.arange(sides) + 1) % sides
    pattern = np.concatenate(
        [
            np.stack([ring, ring + sides, following], -1).reshape(-1, 3),
            np.stack([following, ring + sides, following + sides], -1).reshape(-1, 3),
        ]
    )
    offsets = np.arange(count)[:, None, None] * (length * sides)
    return (pattern[None] + offsets).reshape(-1, 3)
