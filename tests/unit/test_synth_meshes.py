"""Meshes: cutting, hems and borders, grids, merging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.synth.clothing.cut_mesh import border_loops, cut_mesh, with_hem
from training.synth.person.subdivision import loop_subdivision, unique_pairs, vertex_normals
from training.synth.render.surface import grid_faces, merged, painted

_TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def _ball() -> tuple[np.ndarray, np.ndarray]:
    """A closed mesh of the unit sphere: vertices [V, 3], faces [F, 3] that face outwards."""
    vertices = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], float)
    faces = _TETRAHEDRON[:, ::-1]
    for _ in range(4):
        matrix, faces = loop_subdivision(faces, len(vertices))
        vertices = matrix @ vertices
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True), faces


def _area(vertices: np.ndarray, faces: np.ndarray) -> float:
    corners = vertices[faces]
    return (
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
        / 2
    )


@settings(max_examples=15, deadline=None)
@given(st.floats(-0.9, 0.9), st.floats(0, 6.28))
def test_a_cut_follows_its_line_and_leaves_one_smooth_border(height: float, angle: float) -> None:
    vertices, faces = _ball()
    axis = np.array([np.cos(angle), np.sin(angle), 0.3])
    value = vertices @ axis - height
    above, below = (cut_mesh(faces, sign * value) for sign in (1.0, -1.0))
    total = sum(_area(matrix @ vertices, part) for matrix, part in (above, below))
    assert total == pytest.approx(_area(vertices, faces), rel=5e-3)
    matrix, part = above
    assert (matrix @ value)[border_loops(part)[0]] == pytest.approx(0, abs=0.01)
    assert len(border_loops(part)) == 1
    kept = matrix @ vertices
    assert ((vertex_normals(kept, part) * kept).sum(1) > 0).all()


def test_a_hem_moves_the_border_inwards_and_keeps_the_orientation() -> None:
    vertices, faces = _ball()
    matrix, part = cut_mesh(faces, vertices[:, 2] - 0.2)
    kept = matrix @ vertices
    hemmed, hemmed_faces, source = with_hem(kept, part, -0.1 * kept)
    half = np.concatenate([hemmed_faces[:, [0, 1]], hemmed_faces[:, [1, 2]], hemmed_faces[:, [2, 0]]])
    assert (np.unique(half, axis=0, return_counts=True)[1] == 1).all()
    (loop,) = border_loops(hemmed_faces)
    assert np.allclose(np.linalg.norm(hemmed[loop], axis=1), 0.9 * np.linalg.norm(kept[source[loop]], axis=1))


def test_unique_pairs_are_those_of_numpy() -> None:
    pairs = np.random.default_rng(0).integers(0, 9, (200, 2))
    expected, index = np.unique(pairs, axis=0, return_inverse=True)
    found = unique_pairs(pairs)
    assert np.array_equal(found[0], expected) and np.array_equal(found[1], index.reshape(-1))


def test_a_closed_mesh_has_no_border() -> None:
    assert border_loops(_TETRAHEDRON) == []


def test_a_closed_grid_is_a_tube() -> None:
    faces = grid_faces(5, 8, closed=True)
    assert sorted(len(loop) for loop in border_loops(faces)) == [8, 8]
    assert len(border_loops(grid_faces(5, 8, closed=False))) == 1


def test_merged_surfaces_keep_their_triangles() -> None:
    vertices, faces = _ball()
    surface = painted(vertices, faces, np.array([0.1, 0.2, 0.3]), 0.5)
    both = merged([surface, surface])
    assert _area(both.vertices, both.faces) == pytest.approx(2 * _area(vertices, faces))
    assert both.albedo.shape == both.vertices.shape and both.roughness.shape == (2 * len(vertices),)
