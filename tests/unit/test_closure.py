"""Closure tells a light that explains a picture from one that does not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from delit_models.closure import FALSE_COLORS, GOOD, closure
from delit_models.color import linear_to_srgb, srgb_to_linear
from delit_models.errors import DelitError
from delit_models.relight import RelightOptions, relight
from tests.unit.test_relight import lamp, normal_map

FRONT_RIGHT = (0.8, 0.5, 0.9)


def checked_flat(size: int = 96) -> Tensor:
    """Patches of skin and cloth colours, [1, S, S, 3], sRGB."""
    blocks = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(3)) * 0.5 + 0.2
    return blocks.repeat_interleave(size // 6, 2).repeat_interleave(size // 6, 3).movedim(1, -1)


def light(direction: tuple[float, float, float] = FRONT_RIGHT) -> Tensor:
    """A lamp in a weak ambient, [1, 64, 128, 3], that does not overexpose."""
    return 0.15 + 0.5 * lamp(direction, height=64, radius=14) * torch.tensor([1.0, 0.9, 0.7])


def picture(env: Tensor) -> Tensor:
    return relight(checked_flat(), normal_map(), env, options=RelightOptions(specular=0)).picture


@settings(max_examples=10)
@given(azimuth=st.floats(-60, 60), elevation=st.floats(-30, 50))
def test_the_light_that_made_a_picture_explains_it_wherever_it_stands(
    azimuth: float, elevation: float
) -> None:
    a, e = math.radians(azimuth), math.radians(elevation)
    env = light((math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)))
    source = picture(env)
    right = closure(source, checked_flat(), normal_map(), env).pictures[0]
    assert right.explained > 0.98 and right.correlation > 0.98
    assert right.residual < 0.05 and abs(right.exposure) < 0.01 and right.color < 0.5
    for columns in (32, 64, 96):
        wrong = closure(source, checked_flat(), normal_map(), env.roll(columns, 2)).pictures[0]
        assert wrong.explained < 0.3
        assert wrong.residual > 5 * right.residual


def test_exposure_and_colour_are_told() -> None:
    env = light()
    source = picture(env)
    darker = closure(source, checked_flat(), normal_map(), env / 2).pictures[0]
    assert darker.exposure == pytest.approx(1, abs=0.15)
    assert darker.correlation > 0.98 and darker.residual > 0.8
    assert "stops brighter" in darker.text()
    bluer = closure(source, checked_flat(), normal_map(), env * torch.tensor([0.6, 0.9, 1.6])).pictures[0]
    assert 15 < bluer.color < 40


def test_of_plates_the_exposure_does_not_count() -> None:
    env = light()
    options = RelightOptions(specular=0, coding="ACEScg")
    flat = 4 * checked_flat()
    source = relight(flat, normal_map(), env, options=options).picture
    numbers = closure(source, flat, normal_map(), env / 16, coding="ACEScg").pictures[0]
    assert numbers.explained > 0.98
    turned = closure(source, flat, normal_map(), env.roll(32, 2), coding="ACEScg").pictures[0]
    assert turned.explained < 0.3


def test_the_wrong_convention_shows() -> None:
    env = light((0.2, 1.0, 0.5))
    source = picture(env)
    right = closure(source, checked_flat(), normal_map(), env).pictures[0]
    wrong = closure(source, checked_flat(), normal_map(), env, convention="DirectX (-Y up)").pictures[0]
    assert right.explained > GOOD > 0 > wrong.explained


def test_a_delit_that_changed_nothing_explains_nothing() -> None:
    """A flat image equal to the source, under even light, closes exactly; that is no success."""
    source = picture(light())
    numbers = closure(source, source, normal_map(), torch.ones(1, 16, 32, 3)).pictures[0]
    assert numbers.residual < 0.01 and numbers.explained < 0.05
    assert "Nothing to explain" in numbers.text()


def test_the_map_shows_where_and_how_much() -> None:
    """A shadow of two stops is blue, what closes grey, what is not compared dim."""
    env = light()
    source = picture(env)
    shadow = torch.zeros(96, 96, dtype=torch.bool)
    shadow[50:80, 30:60] = True
    dark = torch.where(shadow[..., None], linear_to_srgb(srgb_to_linear(source) / 8), source)
    result = closure(dark, checked_flat(), normal_map(), env)
    colors = dict(FALSE_COLORS)
    torch.testing.assert_close(result.map[0, 65, 45], torch.tensor(colors[-2.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(result.map[0, 30, 48], torch.tensor(colors[0.25]), atol=0.02, rtol=0)
    assert result.map[0, :2].max() < 0.35
    brighter = torch.where(
        shadow[..., None], linear_to_srgb((srgb_to_linear(source) * 8).clamp(max=0.9)), source
    )
    assert closure(brighter, checked_flat(), normal_map(), env).map[0, 65, 45, 0] > 0.75


def test_only_the_mask_is_compared() -> None:
    env = light()
    source = picture(env)
    source[:, :48] = 0.5
    mask = torch.zeros(1, 96, 96)
    mask[:, 48:] = 1
    everywhere, below = (
        closure(source, checked_flat(), normal_map(), env, m).pictures[0] for m in (None, mask)
    )
    assert below.explained > 0.97 > everywhere.explained


def test_a_batch_gives_numbers_for_each() -> None:
    env = torch.cat((light(), light().roll(32, 2)))
    result = closure(picture(light()), checked_flat(), normal_map(), env)
    assert result.map.shape == result.relit.shape == (2, 96, 96, 3)
    first, second = result.pictures
    assert first.explained > 0.98 > 0 > second.explained


def test_what_cannot_be_compared_is_refused() -> None:
    env, source = light(), picture(light())
    with pytest.raises(DelitError, match="too little to compare"):
        closure(source, checked_flat(), normal_map(), env, torch.zeros(1, 96, 96))
    with pytest.raises(DelitError, match="too little to compare"):
        closure(torch.ones(1, 96, 96, 3), checked_flat(), normal_map(), env)
    with pytest.raises(DelitError, match="96×96.*192×192"):
        closure(source, checked_flat(192), normal_map(), env)
    with pytest.raises(DelitError, match="twice as wide"):
        closure(source, checked_flat(), normal_map(), env[:, :, :64])
