"""A painted triangle mesh, the one form in which every part of a person reaches the renderer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.synth.person.subdivision import vertex_normals


@dataclass(frozen=True)
class Surface:
    """vertices and unit normals [V, 3] in Anny's space (metres), faces [F, 3], albedo [V, 3] linear Rec.709 in
    0..1, roughness [V] of the specular lobe in 0..1."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    albedo: np.ndarray
    roughness: np.ndarray


def painted(vertices: np.ndarray, faces: np.ndarray, albedo: np.ndarray, roughness: float) -> Surface:
    """A surface with smooth normals from vertices [V, 3] and faces [F, 3]; albedo [3] or [V, 3]."""
    return Surface(
        vertices=vertices,
        normals=vertex_normals(vertices, faces),
        faces=faces,
        albedo=np.broadcast_to(albedo, vertices.shape).astype(float),
        roughness=np.full(len(vertices), float(roughness)),
    )


def merged(surfaces: Sequence[Surface]) -> Surface:
    """All surfaces as one."""
    starts = np.cumsum([0] + [len(surface.vertices) for surface in surfaces])
    return Surface(
        vertices=np.concatenate([surface.vertices for surface in surfaces]),
        normals=np.concatenate([surface.normals for surface in surfaces]),
        faces=np.concatenate(
            [surface.faces + start for surface, start in zip(surfaces, starts, strict=False)]
        ),
        albedo=np.concatenate([surface.albedo for surface in surfaces]),
        roughness=np.concatenate([surface.roughness for surface in surfaces]),
    )


def grid_faces(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Triangles [F, 3] of a grid of rows x columns points, row by row; closed joins the last column to the first."""
    last = columns if closed else columns - 1
    row, column = (
        index.reshape(-1) for index in np.meshgrid(np.arange(rows - 1), np.arange(last), indexing="ij")
    )
    here, right = row * columns + column, row * columns + (column + 1) % columns
    return np.concatenate(
        [np.stack([here, here + columns, right], 1), np.stack([right, here + columns, right + columns], 1)]
    )
