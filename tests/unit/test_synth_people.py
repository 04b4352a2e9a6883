"""The parts of a person: subdivision, skin colour, strands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.synth.hair.strand_mesh import strand_tubes
from training.synth.person.pigments import (
    MAX_MELANIN,
    TONE_GROUPS,
    melanin_of_tone,
    skin_albedo,
    typology_angle,
)
from training.synth.person.skin import SkinStyle, sample_skin_style
from training.synth.person.subdivision import loop_subdivision, vertex_normals

_TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def test_skin_spans_the_human_range() -> None:
    lightest, darkest = skin_albedo(0.0, 0.1, 0.0), skin_albedo(MAX_MELANIN, 0.3)
    assert 0.6 < lightest[0] < 0.75 and 0.35 < lightest[2] < 0.5
    assert 0.07 < darkest[0] < 0.13 and 0.015 < darkest[2] < 0.04


@given(st.floats(0, MAX_MELANIN), st.floats(0, 1.2))
def test_skin_is_reddish_and_below_one(melanin: float, blood: float) -> None:
    red, green, blue = skin_albedo(melanin, blood)
    assert 0.0 < blue < green < red < 0.75


@given(st.floats(0, MAX_MELANIN - 0.05), st.floats(0, 0.5))
def test_more_melanin_is_darker(melanin: float, blood: float) -> None:
    assert (skin_albedo(melanin + 0.05, blood) < skin_albedo(melanin, blood)).all()


def test_the_typology_angle_is_that_of_cielab() -> None:
    """Against skimage-style CIELAB, written out: 18% grey has L* 49.5; a skin of L* 65, b* 16 has 43 degrees."""
    assert typology_angle(np.array([0.9, 0.9, 0.9])) == pytest.approx(90, abs=0.5)
    colour = np.array([0.4903, 0.3053, 0.2102])
    luminance = colour @ [0.2126729, 0.7151522, 0.0721750]
    lightness = 116 * np.cbrt(luminance) - 16
    yellow = 200 * (np.cbrt(luminance) - np.cbrt(colour @ [0.0193339, 0.1191920, 0.9503041] / 1.08883))
    expected = np.degrees(np.arctan((lightness - 50) / yellow))
    assert typology_angle(colour) == pytest.approx(expected, abs=0.2) and 40 < expected < 60


@pytest.mark.parametrize(
    ("group", "lowest", "highest"),
    [
        ("very light", 55, 90),
        ("light", 41, 55),
        ("medium", 28, 41),
        ("tan", 10, 28),
        ("brown", -30, 10),
        ("dark", -90, -30),
    ],
)
def test_tone_groups_are_the_published_classes(group: str, lowest: float, highest: float) -> None:
    """Each is a sixth of the tones, and its skins have its angles (Del Bino and Bernerd 2013)."""
    share = (TONE_GROUPS.index(group) + np.array([0.05, 0.5, 0.95])) / len(TONE_GROUPS)
    melanin = np.array([melanin_of_tone(tone) for tone in share])
    angle = typology_angle(skin_albedo(melanin, 0.2))
    assert (lowest < angle).all() and (angle < highest).all()
    style = sample_skin_style(np.random.default_rng(0), 0.5)
    assert [replace(style, melanin=value).tone_group for value in melanin] == [group] * 3


def test_all_tone_groups_are_drawn() -> None:
    groups = [sample_skin_style(np.random.default_rng(seed), 0.5).tone_group for seed in range(300)]
    counts = {group: groups.count(group) for group in set(groups)}
    assert len(counts) == 6 and min(counts.values()) > 30
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
