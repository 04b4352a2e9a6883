"""What is drawn for people: how often, for whom, in which colours; and the materials they are rendered with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from training.synth.clothing.glasses import sample_glasses_style
from training.synth.clothing.hats import sample_hat_style
from training.synth.hair.face_hair import sample_face_hair
from training.synth.hair.style import sample_hair_style, strand_colours
from training.synth.person.skin import sample_skin_style
from training.synth.render.materials import MATERIALS, material_description


def test_grey_hair_is_lighter_and_colours_stay_possible() -> None:
    means = []
    for grey in (0.0, 0.5, 1.0):
        colours = strand_colours((0.03, 0.02, 0.01), grey, np.random.default_rng(0))
        assert (colours > 0).all() and (colours < 0.85).all()
        means.append(colours.mean())
    assert means[0] < 0.5 * means[1] < means[1] < means[2]


def _drawn(sample: Callable[[np.random.Generator], str], times: int = 400) -> Counter:
    return Counter(sample(np.random.default_rng(seed)) for seed in range(times))


def test_all_hats_glasses_and_beards_are_drawn_sometimes() -> None:
    hats = _drawn(lambda rng: sample_hat_style(rng, 0.0).kind)
    assert set(hats) == {"none", "beanie", "cap", "brimmed", "scarf"} and hats["none"] > 250
    glasses = _drawn(lambda rng: sample_glasses_style(rng, 0.7).kind)
    assert set(glasses) == {"none", "clear", "tinted", "dark"} and glasses["none"] > 250
    beards = _drawn(lambda rng: sample_face_hair(rng, 0.9, 0.7).beard)
    assert set(beards) == {"none", "stubble", "short", "full", "goatee", "moustache"}


def test_children_have_no_beards_make_up_or_grey_hair() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        assert sample_face_hair(rng, 0.95, 0.45).beard == "none"
        skin = sample_skin_style(rng, 0.05, 0.45)
        assert skin.lipstick == skin.eyeshadow == skin.stubble == skin.age_spots == 0
        hair = sample_hair_style(rng, 0.5, 0.45, 0.5)
        assert hair.grey == 0 and hair.colour_name not in ("grey", "white") and hair.kind != "bald"


def test_hair_has_all_kinds_and_colours_and_fits_the_picture() -> None:
    styles = [sample_hair_style(np.random.default_rng(seed), seed % 2, 0.9, 0.4) for seed in range(500)]
    assert {style.kind for style in styles} == {
        "bald", "buzz", "short", "afro", "curly", "bob", "long", "tied"
    }  # fmt: skip
    assert len({style.colour_name for style in styles}) == 9
    fine = sample_hair_style(np.random.default_rng(7), 0.9, 0.7, 0.4, detail=2.0)
    coarse = sample_hair_style(np.random.default_rng(7), 0.9, 0.7, 0.4, detail=1.0)
    assert fine.strands == 2 * coarse.strands and fine.radius < coarse.radius


@pytest.mark.parametrize("name", list(MATERIALS))
def test_materials_take_colour_and_roughness_from_the_mesh(name: str) -> None:
    description = material_description(name)
    description = description.get("bsdf", description)
    assert description["base_color"]["name"] == "vertex_color"
    assert description["roughness"]["name"] == "vertex_roughness"
