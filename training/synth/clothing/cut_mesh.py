"""Cutting triangle meshes along smooth lines, and the borders that a cut leaves."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from training.synth.person.subdivision import unique_pairs


def cut_mesh(faces: np.ndarray, value: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """The part of a mesh where value [V] is positive, cut along its zero line (within 2% of an edge's length).

    Returns (matrix [W, V], faces [G, 3]): matrix takes any quantity of the old vertices to the new ones. Faces keep
    their orientation.
    """
    inside = value > 0
    count = inside[faces].sum(1)
    # One corner in: that corner's triangle. One corner out: the quadrilateral that is left.
    tip, in_next, in_last = _turned(faces[count == 1], inside, True)
    out, next_corner, last_corner = _turned(faces[count == 2], inside, False)
    edges = np.concatenate(
        [
            np.stack(pair, 1)
            for pair in ((tip, in_next), (tip, in_last), (next_corner, out), (last_corner, out))
        ]
    )
    unique, place = unique_pairs(np.sort(edges, axis=1))
    first, second, third, fourth = np.split(place + len(value), np.cumsum([len(tip), len(tip), len(out)]))
    pieces = [
        faces[count == 3],
        np.stack([tip, first, second], 1),
        np.stack([third, next_corner, last_corner], 1),
        np.stack([third, last_corner, fourth], 1),
    ]
    along = value[unique[:, 0]] / (value[unique[:, 0]] - value[unique[:, 1]])
    # A triangle cut off at its very tip would have no area, and no normal.
    along = np.clip(along, 0.02, 0.98)
    rows = np.repeat(np.arange(len(unique)), 2)
    shares = np.stack([1 - along, along], 1).reshape(-1)
    on_edges = sparse.csr_matrix((shares, (rows, unique.reshape(-1))), shape=(len(unique), len(value)))
    matrix = sparse.vstack([sparse.identity(len(value)), on_edges]).tocsr()
    used, renumbered = np.unique(np.concatenate(pieces), return_inverse=True)
    return matrix[used], renumbered.reshape(-1, 3)


def _turned(faces: np.ndarray, inside: np.ndarray, wanted: bool) -> np.ndarray:
    """Corners [3, F] of faces that have one corner where inside == wanted: turned so that it comes first."""
    start = (inside[faces] == wanted).argmax(1)
    return np.take_along_axis(faces, (start[:, None] + np.arange(3)) % 3, axis=1).T


def _border_edges(faces: np.ndarray) -> np.ndarray:
    """The edges [B, 2] that only one face has, in the direction in which it has them."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    # Sorting is several times faster here than numpy's set operations, which hash.
    _, index = unique_pairs(np.sort(edges, axis=1))
    return edges[np.bincount(index)[index] == 1]


def border_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Vertex indices along each border of a mesh, the mesh on the left seen from outside; the longest loop first."""
    following = dict(_border_edges(faces).tolist())
    loops = []
    while following:
        start, vertex = following.popitem()
        loop = [start]
        while vertex != start and vertex in following:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def with_hem(
    vertices: np.ndarray, faces: np.ndarray, inward: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mesh whose borders are turned inwards by inward [V, 3] metres, so that its edge has thickness.

    Returns (vertices, faces, source): source [new V] is the old vertex that each new one comes from.
    """
    border = _border_edges(faces)
    rim = np.flatnonzero(np.bincount(border.reshape(-1)))
    place = np.full(len(vertices), -1)
    place[rim] = len(vertices) + np.arange(len(rim))
    start, end = border.T
    strip = np.concatenate(
        [np.stack([end, start, place[start]], 1), np.stack([end, place[start], place[end]], 1)]
    )
    turned = vertices[rim] + inward[rim]
    source = np.concatenate([np.arange(len(vertices)), rim])
    return np.concatenate([vertices, turned]), np.concatenate([faces, strip]), source
