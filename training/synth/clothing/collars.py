"""Collars, lapels and hoods: strips of cloth that start at a garment's border and are folded over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from training.synth.hair.growth import leave_skin
from training.synth.hair.strand_mesh import strand_tubes
from training.synth.person.head_frame import unit
from training.synth.person.subdivision import vertex_normals
from training.synth.render.surface import grid_faces

from .cut_mesh import border_loops
from .shell import Shell

_POINTS = 140


@dataclass(frozen=True)
class Border:
    """Evenly spaced points of a garment's neck border, ends at the front: points, rest [N, 3], away [N, 3] unit
    vectors along the surface off the cloth, outwards [N, 3] unit vectors off the body."""

    points: np.ndarray
    rest: np.ndarray
    away: np.ndarray
    outwards: np.ndarray


def neck_border(shell: Shell, lowest: float) -> Border:
    """The border around the neck, its part above lowest (metres on the neutral body) only."""
    loop = _neck_loop(shell, lowest)
    lengths = np.linalg.norm(np.diff(shell.vertices[loop], axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    even = np.linspace(0, along[-1], _POINTS)
    normals = vertex_normals(shell.vertices, shell.faces)
    points, rest, outwards = (
        np.stack([np.interp(even, along, values[loop, axis]) for axis in range(3)], 1)
        for values in (shell.vertices, shell.rest, normals)
    )
    points, outwards = _smooth(points, 2.5), _smooth(outwards, 2.5)
    tangent = unit(_smooth(np.gradient(points, axis=0), 3.0))
    # The hem turns the last normals inwards: off the body is across the border and away from the neck's middle.
    outwards = outwards + 0.8 * unit((points - points.mean(0)) * [1, 1, 0.3])
    outwards = unit(outwards - (outwards * tangent).sum(1, keepdims=True) * tangent)
    # A border runs with the cloth on its left.
    return Border(points, rest, unit(np.cross(tangent, outwards)), outwards)


def _neck_loop(shell: Shell, lowest: float) -> np.ndarray:
    """Vertices along the neck's border, from the middle of its front all around."""
    loop = max(border_loops(shell.open_faces), key=lambda indices: shell.rest[indices, 2].max())
    x, y, z = shell.rest[loop].T
    loop = np.roll(loop, -np.argmin(z + 10.0 * (y > 0) + 0.05 * np.abs(x)))
    return loop[shell.rest[loop, 2] > lowest]


def _smooth(values: np.ndarray, points: float) -> np.ndarray:
    """values [N, 3] along a line, blurred over so many points."""
    return ndimage.gaussian_filter1d(values, points, axis=0, mode="nearest")


def folded_collar(
    border: Border, shell: Shell, stand: np.ndarray, fall: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A strip that stands up by stand [N] metres, folds over and falls by fall [N] metres: (vertices, faces)."""
    profile = [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0005), (1.0, 0.0, 0.001), (1.05, 0.0, 0.0035), (0.9, 0.0, 0.006),
               (0.9, 0.3, 0.008), (0.9, 0.65, 0.0095), (0.9, 1.0, 0.0095)]  # fmt: skip
    rows = [
        border.points + border.away * (up * stand - down * fall)[:, None] + border.outwards * out
        for up, down, out in profile
    ]
    tree = cKDTree(shell.vertices)
    normals = vertex_normals(shell.vertices, shell.faces)
    for index in range(4, len(rows)):
        rows[index] = leave_skin(rows[index], tree, shell.vertices, normals, np.full(_POINTS, 0.004))
        rows[index] = _smooth(rows[index], 1.5)
    return np.concatenate(rows), grid_faces(len(rows), _POINTS, closed=False)


def rolled_hood(border: Border, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A hood that lies around the neck as a roll of radius [N] metres: (vertices, faces)."""
    rows = []
    for angle in np.linspace(0, 1.35 * np.pi, 10):
        up, out = np.sin(angle) * 1.1, 1.0 - np.cos(angle)
        rows.append(border.points + radius[:, None] * (border.away * up + border.outwards * out * 0.8))
    return np.concatenate(rows), grid_faces(len(rows), _POINTS, closed=False)


def drawstrings(border: Border, shell: Shell, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Two cords that hang from the front of a hood: (vertices, faces)."""
    tree = cKDTree(shell.vertices)
    normals = vertex_normals(shell.vertices, shell.faces)
    paths = []
    for index in (6, _POINTS - 7):
        path = border.points[index] + np.linspace(0, 1, 12)[:, None] * [0.0, 0.0, -length]
        paths.append(leave_skin(path, tree, shell.vertices, normals, np.full(12, 0.004)))
    vertices, _, faces = strand_tubes(np.stack(paths), np.full((2, 12), 0.0017), sides=6)
    return vertices, faces
