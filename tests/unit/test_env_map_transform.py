"""Environment maps turned, graded and resized: where the light goes, and that none is lost."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from delit_models.env_map_transform import (
    NEUTRAL_KELVIN,
    EnvMapTransform,
    rotation_matrix,
    transform_env_map,
    turn_env,
    white_balance,
)
from delit_models.errors import DelitError
from delit_models.key_lights import find_key_lights
from delit_models.lat_long import (
    TEST_MAP_LABELS,
    direction_grid,
    labelled_test_map,
    sample_env,
    to_orientation,
    total_light,
)

AHEAD, RIGHT, UP = (torch.tensor(TEST_MAP_LABELS[name][0]) for name in ("ahead", "right", "up"))
WHITE, RED, BLUE = (torch.tensor(TEST_MAP_LABELS[name][1]) for name in ("ahead", "right", "up"))
angles = st.floats(-180, 180)


def seen(env: Tensor, direction: Tensor) -> Tensor:
    return sample_env(env, direction[None])[0]


def smooth_map(height: int = 64) -> Tensor:
    grid = direction_grid(height, 2 * height)
    return 1 + grid @ torch.tensor([[0.5, 0.1, -0.2], [0.1, 0.6, 0.3], [-0.3, 0.2, 0.4]])


@pytest.mark.parametrize(
    ("turn", "looked", "color"),
    [
        ({"yaw": 90.0}, RIGHT, WHITE),
        ({"yaw": -90.0}, AHEAD, RED),
        ({"pitch": 90.0}, UP, WHITE),
        ({"roll": 90.0}, RIGHT, BLUE),
        ({"roll": -90.0}, UP, RED),
        ({"yaw": 90.0, "pitch": 90.0}, UP, WHITE),
    ],
)
def test_which_way_it_turns(turn: dict[str, float], looked: Tensor, color: Tensor) -> None:
    env = transform_env_map(labelled_test_map(), EnvMapTransform(**turn))
    torch.testing.assert_close(seen(env, looked), color, rtol=0.02, atol=0.01)


def test_flipping_swaps_left_and_right() -> None:
    env = transform_env_map(labelled_test_map(), EnvMapTransform(flip=True))
    torch.testing.assert_close(seen(env, -RIGHT), RED)
    torch.testing.assert_close(seen(env, AHEAD), WHITE)


@settings(max_examples=20, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(yaw=angles, pitch=angles, roll=angles)
def test_turning_keeps_the_light_and_moves_the_lamp(yaw: float, pitch: float, roll: float) -> None:
    env = torch.full((64, 128, 3), 0.2)
    env[20, 90] = torch.tensor([900.0, 600.0, 300.0])
    turned = turn_env(env, yaw, pitch, roll)
    torch.testing.assert_close(total_light(turned), total_light(env), rtol=1e-4, atol=0)
    (before,), (after,) = find_key_lights(env).lights, find_key_lights(turned).lights
    expected = rotation_matrix(yaw, pitch, roll) @ torch.tensor(before.direction)
    assert (expected @ torch.tensor(after.direction)).item() > 0.9998
    assert after.color == pytest.approx(before.color, abs=0.01)


def test_there_and_back_is_close() -> None:
    env = smooth_map()
    matrix = rotation_matrix(30, 20, -50)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3), rtol=0, atol=1e-6)
    back = turn_env(turn_env(turn_env(env, 0, 40), 25), -25)
    error = (turn_env(back, 0, -40) - env).abs()
    # What is seen through a pole is a degree off.
    assert error.max() < 0.02 and error.mean() < 0.002


def test_whole_columns_are_exact_and_a_batch_is_a_batch() -> None:
    maps = torch.rand(3, 32, 64, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(turn_env(maps, 45.0), torch.roll(maps, 8, dims=-2), rtol=0, atol=0)
    turned = turn_env(maps, 10.0, 20.0)
    torch.testing.assert_close(turned[1], turn_env(maps[1], 10.0, 20.0))
    torch.testing.assert_close(transform_env_map(maps, EnvMapTransform()), maps, rtol=0, atol=0)


def test_exposure_and_size() -> None:
    env = smooth_map()
    result = transform_env_map(env, EnvMapTransform(exposure=-2.0, height=24))
    assert result.shape == (24, 48, 3)
    torch.testing.assert_close(total_light(result), total_light(env) / 4, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kelvin", [2000.0, 2856.0, 3200.0, 5000.0, 9000.0, 20000.0])
def test_light_of_the_temperature_becomes_white(kelvin: float) -> None:
    matrix = white_balance(kelvin)
    color = torch.linalg.inv(matrix) @ torch.ones(3, dtype=torch.float64)
    # Warmer light is redder.
    assert (color[0] > color[2]) == (kelvin < NEUTRAL_KELVIN)
    env = color.clamp(min=0).float().expand(16, 32, 3)
    result = transform_env_map(env, EnvMapTransform(temperature=kelvin))
    if (color > 0).all():
        torch.testing.assert_close(result, torch.ones(16, 32, 3), rtol=1e-4, atol=1e-4)
    assert (result >= 0).all()


def test_illuminant_a_becomes_white() -> None:
    """CIE standard illuminant A (XYZ 1.0985, 1, 0.35585) as linear Rec.709, from its table, not from our formula.
    What is left over is that black bodies of 6504 K are a little pinker than D65, which both ends are measured by."""
    balanced = white_balance(2856.0).float() @ torch.tensor([1.8454, 0.8261, 0.2333])
    assert balanced.max() / balanced.min() < 1.08


def test_neutral_changes_nothing_and_tint_takes_green() -> None:
    torch.testing.assert_close(white_balance(NEUTRAL_KELVIN), torch.eye(3).double(), rtol=0, atol=1e-6)
    red, green, blue = white_balance(NEUTRAL_KELVIN, tint=1.0) @ torch.ones(3, dtype=torch.float64)
    assert green / red == pytest.approx(0.5) and red == pytest.approx(blue.item())
    assert 0.2126 * red + 0.7152 * green + 0.0722 * blue == pytest.approx(1.0, abs=1e-4)


def test_presets() -> None:
    env = smooth_map()
    there = transform_env_map(env, EnvMapTransform(target="blender"))
    torch.testing.assert_close(there, to_orientation(env, "blender"), rtol=0, atol=0)
    torch.testing.assert_close(transform_env_map(there, EnvMapTransform(source="blender")), env)
    # A mirrored preset, in and out: what is done in between is done to the map as Delit has it.
    mirrored = to_orientation(env, "cinema 4d")
    turned = transform_env_map(mirrored, EnvMapTransform(source="cinema 4d", yaw=90, target="cinema 4d"))
    expected = to_orientation(turn_env(env, 90), "cinema 4d")
    torch.testing.assert_close(turned, expected, rtol=0, atol=0)


def test_refusals() -> None:
    with pytest.raises(DelitError, match="twice as wide"):
        transform_env_map(torch.ones(10, 10, 3), EnvMapTransform())
    with pytest.raises(DelitError, match="outside 1700"):
        transform_env_map(torch.ones(8, 16, 3), EnvMapTransform(temperature=500))
    with pytest.raises(DelitError, match="Unknown orientation"):
        transform_env_map(torch.ones(8, 16, 3), EnvMapTransform(target="maya?"))


@pytest.mark.parametrize("name", ["yaw", "pitch", "roll", "exposure", "tint"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e20])
def test_turns_and_stops_without_bounds_are_refused(name: str, value: float) -> None:
    with pytest.raises(DelitError, match=re.escape(f"{name} is {value}; give a number between")):
        transform_env_map(torch.ones(8, 16, 3), EnvMapTransform(**{name: value}))


@pytest.mark.parametrize("height", [-1, 100_000])
def test_heights_without_bounds_are_refused(height: int) -> None:
    with pytest.raises(DelitError, match=f"height is {height}"):
        transform_env_map(torch.ones(8, 16, 3), EnvMapTransform(height=height))
