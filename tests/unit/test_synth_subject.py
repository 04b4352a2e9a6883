"""Whole people: everything that is built is finite, painted in possible colours, where it belongs, and repeats."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

if importlib.util.find_spec("anny") is None:
    pytest.skip("Anny is not installed (pip install anny); people cannot be built", allow_module_level=True)

from training.synth.clothing.clothes import neck_height
from training.synth.clothing.cut_mesh import border_loops
from training.synth.clothing.glasses import build_glasses, sample_glasses_style
from training.synth.clothing.hats import build_hat, outside_hat, under_hat
from training.synth.hair.face_hair import beard_weight
from training.synth.hair.hair import build_hair
from training.synth.person.head_frame import HeadFrame
from training.synth.person.people import PersonMesh, body_template, build_person
from training.synth.person.skin_relief import wrinkle_height
from training.synth.person.subject import PersonStyle, build_surfaces, sample_person_style
from training.synth.render.materials import MATERIALS

# Between them, all garments, hats, glasses, and hair of every length.
_OUTFITS = [
    ("t-shirt", "beanie", "clear", "long", "full"),
    ("shirt", "cap", "tinted", "short", "stubble"),
    ("hoodie", "brimmed", "dark", "afro", "goatee"),
    ("jacket", "scarf", "none", "curly", "none"),
    ("t-shirt", "none", "none", "tied", "none"),
]


def _dressed(seed: int, clothes: str, hat: str, glasses: str, hair: str, beard: str) -> PersonStyle:
    style = sample_person_style(np.random.default_rng(seed))
    neckline = "open" if clothes == "shirt" else "crew"
    return replace(
        style,
        clothes=replace(style.clothes, kind=clothes, neckline=neckline),
        hat=replace(style.hat, kind=hat),
        glasses=replace(style.glasses, kind=glasses, tint=0.4 if glasses == "tinted" else 0.0),
        hair=replace(style.hair, kind=hair, length=0.08, strands=2000),
        face_hair=replace(style.face_hair, beard=beard, beard_length=0.0 if beard == "none" else 0.01),
    )


@pytest.mark.parametrize("outfit", _OUTFITS, ids="-".join)
def test_every_surface_is_finite_and_painted_in_possible_colours(outfit: tuple[str, ...]) -> None:
    surfaces, mesh = build_surfaces(_dressed(3, *outfit), np.random.default_rng(4))
    assert {"skin", "eyes", "hair", "cloth"} <= set(surfaces) <= set(MATERIALS)
    assert ("hard" in surfaces) == (outfit[2] != "none")
    head = mesh.vertices[:, 2].max()
    for name, surface in surfaces.items():
        count = len(surface.vertices)
        assert np.isfinite(surface.vertices).all(), name
        assert surface.faces.min() >= 0 and surface.faces.max() < count
        used = np.unique(surface.faces)
        lengths = np.linalg.norm(surface.normals[used], axis=1)
        assert np.quantile(np.abs(lengths - 1), 0.999) < 1e-3, name
        assert surface.albedo.shape == (count, 3) and surface.roughness.shape == (count,)
        assert surface.albedo.min() >= 0 and surface.albedo.max() <= 0.9, name
        assert surface.roughness.min() > 0 and surface.roughness.max() <= 1
        assert surface.vertices[:, 2].max() < head + 0.2, name


def test_the_same_generator_state_gives_the_same_person_vertex_for_vertex() -> None:
    styles = [sample_person_style(np.random.default_rng(8)) for _ in range(2)]
    assert styles[0] == styles[1] != sample_person_style(np.random.default_rng(9))
    first, second = (build_surfaces(style, np.random.default_rng(1))[0] for style in styles)
    assert list(first) == list(second)
    for name in first:
        assert np.array_equal(first[name].vertices, second[name].vertices)
        assert np.array_equal(first[name].albedo, second[name].albedo)


def test_eyeballs_sit_in_their_sockets_and_face_outwards() -> None:
    surfaces, mesh = build_surfaces(_dressed(5, *_OUTFITS[4]), np.random.default_rng(4))
    eyes = surfaces["eyes"]
    halves = np.split(np.arange(len(eyes.vertices)), 2)
    for centre, radius, members in zip(mesh.eye_centres, mesh.eye_radii, halves, strict=True):
        offset = eyes.vertices[members] - centre
        assert np.linalg.norm(offset, axis=1) == pytest.approx(radius, rel=0.06)
        assert ((eyes.normals[members] * offset).sum(1) > 0).mean() > 0.98
    # Only the two points at the poles are left open.
    assert {len(loop) for loop in border_loops(eyes.faces)} == {64}


def test_skin_spans_all_tones_evenly_and_keeps_every_age_and_sex() -> None:
    styles = [sample_person_style(np.random.default_rng(seed)) for seed in range(300)]
    groups = [style.skin.tone_group for style in styles]
    assert min(groups.count(group) for group in set(groups)) > 25 and len(set(groups)) == 6
    for key in ("age", "gender", "weight"):
        values = np.array([style.shape.phenotype[key] for style in styles])
        assert values.min() < 0.45 and values.max() > 0.9, key
    dark = [style.shape.phenotype["african"] for style in styles if style.skin.melanin > 1.3]
    assert min(dark) < 0.3 and max(dark) > 0.7  # tone does not fix the shape of a face


def test_wrinkles_come_with_age() -> None:
    assert np.abs(wrinkle_height(0.6, np.random.default_rng(0))).max() == 0
    old = wrinkle_height(1.0, np.random.default_rng(0))
    assert -0.004 < old.min() < -0.0003 and old.max() <= 0


def test_regions_are_where_they_are_on_a_face() -> None:
    body = body_template()
    nose_tip = np.argmin(body.rest[:, 1])
    crown = np.argmax(body.rest[:, 2])
    chin = np.argmin(np.linalg.norm(body.rest - [0.0, -0.127, 0.550], axis=1))
    assert body.regions.beard[nose_tip] == body.regions.beard[crown] == 0 and body.regions.beard[chin] > 0.5
    assert body.regions.t_zone[nose_tip] > 0.9 > 0.1 > body.regions.t_zone[crown]
    assert beard_weight("moustache")[chin] < 0.01 < 0.5 < beard_weight("goatee")[chin]
    style = sample_person_style(np.random.default_rng(0)).hat
    for kind in ("beanie", "cap", "brimmed", "scarf"):
        inside = under_hat(replace(style, kind=kind))
        assert inside[crown] > 0.02 and inside[nose_tip] < 0 and inside[chin] < 0, kind
    for neckline in ("crew", "v-neck", "scoop", "high", "open"):
        covered = neck_height(neckline, body.rest)
        assert covered[chin] < 0 and covered[body.rest[:, 2] < 0.3].min() > 0


@pytest.mark.parametrize(("kind", "tint", "passes"), [("clear", 0.0, 0.90), ("tinted", 0.4, 0.50)])
def test_lenses_let_the_right_share_of_light_pass(kind: str, tint: float, passes: float) -> None:
    style = replace(sample_glasses_style(np.random.default_rng(2), 0.7), kind=kind, tint=tint)
    mesh = _neutral_person()
    surfaces = build_glasses(style, mesh, np.random.default_rng(0))
    bare = build_glasses(replace(style, kind="clear", tint=0.0), mesh, np.random.default_rng(0))["hard"]
    absorbing = _area(surfaces["hard"]) - _area(bare)
    whole = build_glasses(replace(style, kind="dark"), mesh, np.random.default_rng(0))["hard"]
    lenses = _area(whole) - _area(bare)
    assert 1 - (absorbing + _area(surfaces["mirror"])) / lenses == pytest.approx(passes, abs=0.015)


def test_glasses_are_before_the_eyes_and_reach_the_ears() -> None:
    style = replace(sample_glasses_style(np.random.default_rng(2), 0.7), kind="clear")
    mesh = _neutral_person()
    frame = build_glasses(style, mesh, np.random.default_rng(0))["hard"].vertices
    assert frame[:, 1].min() < (mesh.eye_centres[:, 1] - mesh.eye_radii).min()
    assert frame[:, 1].max() > mesh.eye_centres[:, 1].max() + 0.06
    assert np.ptp(frame[:, 0]) < 0.25


def test_hair_does_not_come_out_through_a_hat_but_hangs_from_under_it() -> None:
    mesh = _neutral_person()
    style = replace(sample_person_style(np.random.default_rng(0)).hat, kind="beanie")
    hat = build_hat(style, mesh, 0.004, np.random.default_rng(0))
    top = hat.vertices[np.argmax(hat.vertices[:, 2])]
    lowest = hat.vertices[np.argmin(hat.vertices[:, 2])]
    up, down = (np.linspace(0, 1, 5)[:, None] * [0, 0, height] for height in (0.02, -0.1))
    strands = np.stack([top - [0, 0, 0.01] + up, lowest + [0, 0, -0.004] + down])
    assert outside_hat(strands, hat).tolist() == [False, True]


@pytest.mark.parametrize("part_side", [-0.03, 0.0, 0.03])
@pytest.mark.parametrize("kind", ["curly", "bob", "long"])
def test_no_strand_hangs_before_the_eyes_or_the_mouth(kind: str, part_side: float) -> None:
    mesh = _neutral_person()
    hair = sample_person_style(np.random.default_rng(0)).hair
    style = replace(hair, kind=kind, length=0.3, strands=4000, part_side=part_side, curl=0.5, radius=0.0003)
    no_hat = np.zeros(len(mesh.vertices))
    (strands,), _ = build_hair(style, mesh, no_hat, np.random.default_rng(0))
    assert len(strands.points) > 0.95 * style.strands
    points = HeadFrame.of(mesh).to_rest(strands.points.reshape(-1, 3))
    x, y, z = points.T
    assert not ((np.abs(x) < 0.045) & (y < -0.08) & (z > 0.55) & (z < 0.67)).any()
    # It falls on either side of the face, not only behind it.
    for side in (-1, 1):
        assert ((side * x > 0.055) & (y < -0.03) & (z < 0.65)).any()


def _neutral_person() -> PersonMesh:
    return build_person(sample_person_style(np.random.default_rng(1)).shape)


def _area(surface: object) -> float:
    corners = surface.vertices[surface.faces]
    return float(
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
        / 2
    )
