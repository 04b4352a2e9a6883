"""The parts of a person: subdivision, skin colour, strands."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.synth.skin import MAX_MELANIN, SkinStyle, sample_skin_style, skin_albedo
from training.synth.strand_mesh import strand_tubes
from training.synth.subdivision import loop_subdivision, vertex_normals

_TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def test_skin_spans_the_human_range() -> None:
    lightest, darkest = skin_albedo(0.0, 0.1), skin_albedo(MAX_MELANIN, 0.3)
    assert 0.6 < lightest[0] < 0.75 and 0.35 < lightest[2] < 0.5
    assert 0.07 < darkest[0] < 0.13 and 0.015 < darkest[2] < 0.04


@given(st.floats(0, MAX_MELANIN), st.floats(0, 1.2))
def test_skin_is_reddish_and_below_one(melanin: float, blood: float) -> None:
    red, green, blue = skin_albedo(melanin, blood)
    assert 0.0 < blue < green < red < 0.75


@given(st.floats(0, MAX_MELANIN - 0.05), st.floats(0, 0.5))
def test_more_melanin_is_darker(melanin: float, blood: float) -> None:
    assert (skin_albedo(melanin + 0.05, blood) < skin_albedo(melanin, blood)).all()


def test_all_tone_groups_are_drawn() -> None:
    groups = [sample_skin_style(np.random.default_rng(seed), 0.5).tone_group for seed in range(300)]
    counts = {group: groups.count(group) for group in set(groups)}
    assert len(counts) == 6 and min(counts.values()) > 20
    assert isinstance(sample_skin_style(np.random.default_rng(0), 1.0), SkinStyle)


def test_subdivision_keeps_constants_and_closes_surfaces() -> None:
    matrix, faces = loop_subdivision(_TETRAHEDRON, 4)
    assert matrix.shape == (10, 4) and faces.shape == (16, 3)
    assert np.allclose(matrix.sum(1), 1.0)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_subdivided_plane_stays_flat_with_its_border() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    matrix, faces = loop_subdivision(np.array([[0, 1, 2], [0, 2, 3]]), 4)
    fine = matrix @ square
    assert np.allclose(fine[:, 2], 0)
    assert np.allclose(vertex_normals(fine, faces), [0, 0, 1])


def test_tubes_have_the_given_radius_and_face_outwards() -> None:
    points = np.linspace([0, 0, 0], [0, 0.01, 0.1], 5)[None].repeat(3, 0) + np.arange(3)[:, None, None]
    vertices, normals, faces = strand_tubes(points, np.full((3, 5), 0.002))
    centres = np.repeat(points.reshape(-1, 3), 3, axis=0)
    assert np.allclose(np.linalg.norm(vertices - centres, axis=1), 0.002)
    assert np.allclose(vertices - centres, normals * 0.002)
    assert faces.max() == len(vertices) - 1
    flat_normals = np.cross(
        vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]]
    )
    assert ((flat_normals * normals[faces].sum(1)).sum(1) > 0).all() or (
        (flat_normals * normals[faces].sum(1)).sum(1) < 0
    ).all()
