"""The environment code: four channels in [0, 1] that hold HDR radiance."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from delit_models.env_codec import EPSILON, MAX_RADIANCE, STOPS, decode_env, encode_env
from delit_models.errors import DelitError

ratios = st.floats(0.0, 1.0, width=32)


def pixel(red: float, green: float, blue: float) -> torch.Tensor:
    return torch.tensor([red, green, blue], dtype=torch.float32).reshape(1, 3, 1, 1)


def relative_error(decoded: torch.Tensor, radiance: torch.Tensor) -> torch.Tensor:
    """The largest error of a pixel's channels relative to its brightest channel."""
    return ((decoded - radiance).abs() / radiance.amax(dim=-3, keepdim=True)).amax()


def spread_of_radiance(count: int = 20000) -> torch.Tensor:
    """[1, 3, count, 1]: brightest channels from 2^-8 to 65504, all hues, from grey to saturated."""
    generator = torch.Generator().manual_seed(3)
    color = torch.rand(1, 3, count, 1, generator=generator) ** 2
    color = color / color.amax(dim=1, keepdim=True)
    return color * torch.exp2(torch.linspace(-8, math.log2(MAX_RADIANCE) - 1e-6, count))[:, None]


def test_the_code_is_the_published_formula() -> None:
    code = encode_env(pixel(2.0, 0.5, 0.0)).flatten().tolist()
    epsilon = 2**-10
    expected = [
        1.0,
        (0.5 + epsilon) / (2 + epsilon),
        epsilon / (2 + epsilon),
        (math.log2(2 + epsilon) + 10) / 26,
    ]
    assert code == pytest.approx(expected, abs=1e-6)
    assert (EPSILON, STOPS) == (epsilon, 26.0)


@given(st.floats(-8.0, math.log2(65504) - 1e-6), ratios, ratios, st.permutations([0, 1, 2]))
def test_round_trip_within_a_hundredth_of_a_percent(
    stops: float, a: float, b: float, order: list[int]
) -> None:
    radiance = pixel(2.0**stops, a * 2.0**stops, b * 2.0**stops)[:, order]
    code = encode_env(radiance)
    assert code.shape == (1, 4, 1, 1) and code.min() >= 0.0 and code.max() <= 1.0
    assert relative_error(decode_env(code), radiance) < 1e-4


@given(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4))
def test_any_code_decodes_to_usable_light(code: list[float]) -> None:
    radiance = decode_env(torch.tensor(code).reshape(4, 1, 1))
    assert torch.isfinite(radiance).all() and radiance.min() >= 0.0 and radiance.max() <= MAX_RADIANCE


def test_precision_of_stored_codes_is_as_documented() -> None:
    radiance = spread_of_radiance()
    errors = {
        dtype: relative_error(decode_env(encode_env(radiance).to(dtype)), radiance).item()
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    }
    assert errors[torch.float32] < 1e-4
    assert errors[torch.float16] < 0.01
    assert 0.01 < errors[torch.bfloat16] < 0.05


def test_black_stays_black() -> None:
    code = encode_env(torch.zeros(2, 3, 4, 8))
    assert torch.equal(code[:, 3], torch.zeros(2, 4, 8))
    assert torch.equal(decode_env(code), torch.zeros(2, 3, 4, 8))


def test_dim_light_keeps_an_absolute_precision() -> None:
    dim = pixel(1e-4, 5e-5, 0.0)
    assert torch.allclose(decode_env(encode_env(dim)), dim, atol=1e-8)


@pytest.mark.parametrize("huge", [65504.0, 7e4, 1e8, 3e38])
def test_huge_light_is_lowered_to_the_limit_and_keeps_its_colour(huge: float) -> None:
    decoded = decode_env(encode_env(pixel(huge, huge / 2, 0.0))).flatten()
    assert decoded.tolist() == pytest.approx([MAX_RADIANCE, MAX_RADIANCE / 2, 0.0], rel=1e-4, abs=0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -1e-3])
def test_light_that_cannot_be_is_refused_with_its_place(bad: float) -> None:
    radiance = torch.ones(1, 3, 4, 8)
    radiance[0, 1, 2, 3] = bad
    with pytest.raises(DelitError, match=r"1 of 96 .* index \[0, 1, 2, 3\]"):
        encode_env(radiance)


def test_an_overshooting_network_is_clamped_and_a_broken_one_refused() -> None:
    code = torch.tensor([1.3, -0.2, 0.5, 1.2]).reshape(1, 4, 1, 1)
    assert torch.equal(decode_env(code), decode_env(code.clamp(0, 1)))
    with pytest.raises(DelitError, match="NaN or Inf"):
        decode_env(torch.full((1, 4, 2, 2), torch.nan))


def test_gradients_flow_both_ways() -> None:
    radiance = spread_of_radiance(500).requires_grad_()
    encode_env(radiance).sum().backward()
    assert torch.isfinite(radiance.grad).all() and (radiance.grad != 0).any()
    code = torch.rand(1, 4, 8, 16).requires_grad_()
    decode_env(code).log1p().sum().backward()
    assert torch.isfinite(code.grad).all() and (code.grad[:, 3] != 0).any()


def test_gradients_are_finite_on_black() -> None:
    radiance = torch.zeros(1, 3, 2, 4, requires_grad=True)
    encode_env(radiance).sum().backward()
    assert torch.isfinite(radiance.grad).all()


@pytest.mark.parametrize("shape", [(1, 4, 8, 16), (8, 16, 3), (3, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DelitError, match="radiance of shape"):
        encode_env(torch.ones(shape))
    with pytest.raises(DelitError, match="environment code of shape"):
        decode_env(torch.ones(2, 3, 8, 16))


def test_half_and_single_maps_are_taken() -> None:
    assert encode_env(torch.ones(3, 4, 8).half()).dtype == torch.float32
    assert decode_env(torch.ones(4, 4, 8).bfloat16()).shape == (3, 4, 8)
