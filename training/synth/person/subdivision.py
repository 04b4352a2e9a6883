"""Loop subdivision as a constant sparse matrix: refine the template once, then any pose by one product."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse


def _unique_edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of a triangle mesh: (edges [E, 2] sorted, edge of each half-edge [3F], opposite corner [3F])."""
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    opposite = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    edges, index = unique_pairs(np.sort(half, axis=1))
    return edges, index, opposite


def unique_pairs(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows [U, 2] of pairs [N, 2] of indices, in order, and which of them each row is [N].

    As numpy.unique over rows, ten times as fast: a pair is sorted as one number.
    """
    size = int(pairs.max(initial=0)) + 1
    codes, index = np.unique(pairs[:, 0] * size + pairs[:, 1], return_inverse=True)
    return np.stack([codes // size, codes % size], 1), index.reshape(-1)


def loop_subdivision(faces: np.ndarray, vertex_count: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """One level of Loop subdivision (C. Loop, 1987, with Warren's vertex weights).

    faces: [F, 3] indices below vertex_count. Returns (matrix [V + E, V], faces [4F, 3]): fine = matrix @ coarse.
    Open borders use the cubic B-spline rules, so a border curve does not depend on the inside.
    """
    edges, edge_of_half, opposite = _unique_edges(faces)
    edge_count = len(edges)
    uses = np.bincount(edge_of_half, minlength=edge_count)
    border = uses == 1

    end_weight = np.where(border, 0.5, 0.375)
    rows = [np.arange(edge_count), np.arange(edge_count)]
    columns = [edges[:, 0], edges[:, 1]]
    values = [end_weight, end_weight]
    inside = ~border[edge_of_half]
    rows.append(edge_of_half[inside])
    columns.append(opposite[inside])
    values.append(0.25 / uses[edge_of_half[inside]])
    edge_matrix = sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(edge_count, vertex_count),
    )
    matrix = sparse.vstack([_vertex_rule(edges, border, vertex_count), edge_matrix]).tocsr()

    face_count = len(faces)
    mid = vertex_count + edge_of_half.reshape(3, face_count).T
    a, b, c = faces.T
    ab, bc, ca = mid.T
    corners = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return matrix, np.concatenate([np.stack(corner, axis=1) for corner in corners])


def _vertex_rule(edges: np.ndarray, border: np.ndarray, vertex_count: int) -> sparse.csr_matrix:
    """Rows of the subdivision matrix that move the old vertices."""
    is_border = np.zeros(vertex_count, bool)
    is_border[edges[border].reshape(-1)] = True
    both = np.concatenate([edges, edges[:, ::-1]])
    border_edge = np.concatenate([border, border])
    keep = np.where(is_border[both[:, 0]], border_edge, True)
    both = both[keep]
    valence = np.bincount(both[:, 0], minlength=vertex_count).astype(np.float64)
    inner_weight = np.where(valence == 3, 3 / 16, 3 / (8 * np.maximum(valence, 1)))
    weight = np.where(is_border, 0.25 / np.maximum(valence, 1), inner_weight)
    weight = np.where(valence == 0, 0.0, weight)
    neighbours = sparse.csr_matrix(
        (weight[both[:, 0]], (both[:, 0], both[:, 1])), shape=(vertex_count, vertex_count)
    )
    return sparse.diags(1.0 - weight * valence) + neighbours


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [V, 3] of a triangle mesh."""
    corners = vertices[faces]
    face_normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [
            np.bincount(faces.reshape(-1), np.repeat(face_normal[:, axis], 3), minlength=len(vertices))
            for axis in range(3)
        ],
        axis=1,
    )
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
