"""The measure of skin on photographs."""

from __future__ import annotations

import pytest
import torch

from benchmarks.photographs import look_of, skin_pixels
from delit_models.color import linear_to_srgb, srgb_to_linear

SKIN = torch.tensor([0.80, 0.58, 0.47])
OTHERS = {
    "leaves": [0.2, 0.5, 0.2],
    "grey": [0.5, 0.5, 0.5],
    "black": [0.02, 0.01, 0.01],
    "sky": [0.4, 0.6, 0.9],
}


@pytest.mark.parametrize("color", OTHERS.values(), ids=OTHERS)
def test_skin_is_what_the_matte_holds_and_has_its_colour(color: list[float]) -> None:
    picture = SKIN.expand(8, 8, 3).clone()
    picture[:4] = torch.tensor(color)
    matte = torch.ones(8, 8)
    matte[:, :2] = 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4:, 2:] = True
    assert torch.equal(skin_pixels(picture, matte), expected)


def test_a_stop_less_light_is_a_stop_of_brightness_and_neither_hue_nor_spread() -> None:
    bright = SKIN.expand(100, 3)
    dark = linear_to_srgb(srgb_to_linear(bright) / 2)
    before, after = look_of(bright), look_of(dark)
    assert after.brightness - before.brightness == pytest.approx(-1, abs=1e-4)
    assert after.hue == pytest.approx(before.hue, abs=2)
    assert after.spread == pytest.approx(0, abs=1e-4)


def test_half_of_the_light_on_one_side_is_spread() -> None:
    shaded = linear_to_srgb(srgb_to_linear(SKIN) * torch.tensor([1.0, 0.25]).repeat(50)[:, None])
    assert look_of(shaded).spread == pytest.approx(1, abs=0.02)
