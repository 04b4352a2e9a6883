"""Dominant lights: found where they were put, as bright, as coloured and as wide; and none where there is none."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from delit_models.errors import DelitError
from delit_models.key_lights import KeyLight, find_key_lights
from delit_models.lat_long import direction_grid, resample_env, solid_angles

HEIGHT = 128
# Shrinking a failing map takes minutes and says no more.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
coordinate = st.floats(-1, 1)
directions = (
    st.tuples(coordinate, coordinate, coordinate)
    .map(lambda d: torch.tensor(d, dtype=torch.float32))
    .filter(lambda d: d.norm() > 0.1)
    .map(lambda d: F.normalize(d, dim=0))
)
colors = st.tuples(*[st.floats(0.2, 1.0)] * 3).map(torch.tensor)


def lamp(direction: Tensor, half_angle: float, radiance: Tensor, height: int = HEIGHT) -> Tensor:
    """An evenly bright round lamp in the dark, [height, 2 height, 3], averaged over its pixels."""
    cosines = direction_grid(4 * height, 8 * height) @ direction
    disc = (cosines > math.cos(math.radians(half_angle))).float()[..., None]
    return resample_env(disc * radiance, height, 2 * height)


def irradiance(half_angle: float, radiance: Tensor) -> Tensor:
    """Of a surface that faces a round lamp: L pi sin^2 a."""
    return radiance * math.pi * math.sin(math.radians(half_angle)) ** 2


def facing(env: Tensor, direction: Tensor) -> Tensor:
    """Irradiance [3] of a surface that faces `direction`, summed over the map's pixels."""
    cosines = (direction_grid(*env.shape[:2]) @ direction).clamp(min=0) * solid_angles(*env.shape[:2])
    return (env * cosines[..., None]).sum((0, 1))


def angle(light: KeyLight, direction: Tensor) -> float:
    cosine = (torch.tensor(light.direction) @ direction).clamp(-1, 1)
    return math.degrees(math.acos(cosine.item()))


@settings(max_examples=30, deadline=None, phases=PHASES)
@given(direction=directions, half_angle=st.floats(2, 50), color=colors, ambient=st.floats(0, 0.5))
def test_one_lamp_anywhere(direction: Tensor, half_angle: float, color: Tensor, ambient: float) -> None:
    # As much light as three even white ones, however wide: a key.
    radiance = color * (3 * math.pi / irradiance(half_angle, torch.tensor(1.0)))
    disc = lamp(direction, half_angle, radiance)
    lighting = find_key_lights(disc + ambient)
    assert len(lighting.lights) == 1
    light = lighting.lights[0]
    assert angle(light, direction) < 0.5 + 0.02 * half_angle
    assert light.angular_diameter == pytest.approx(2 * half_angle, rel=0.05, abs=0.7)
    expected = facing(disc, direction)
    torch.testing.assert_close(torch.tensor(light.irradiance), expected, rtol=0.05, atol=0)
    torch.testing.assert_close(torch.tensor(light.color), color / color.max(), rtol=0.02, atol=0.01)
    luminous = (expected @ torch.tensor([0.2126, 0.7152, 0.0722])).item()
    assert light.share == pytest.approx(luminous / (luminous + math.pi * ambient), abs=0.05)
    assert lighting.ambient == pytest.approx([ambient] * 3, abs=0.02 * luminous)


@settings(max_examples=20, deadline=None, phases=PHASES)
@given(
    first=directions,
    second=directions,
    sizes=st.tuples(st.floats(3, 20), st.floats(3, 20)),
    stops=st.floats(0.3, 2),
)
def test_two_lamps_apart(first: Tensor, second: Tensor, sizes: tuple[float, float], stops: float) -> None:
    apart = math.degrees(math.acos((first @ second).clamp(-1, 1).item()))
    if apart < sum(sizes) + 12:
        return
    strong, weak = (
        torch.ones(3) * level / irradiance(size, torch.tensor(1.0))
        for size, level in zip(sizes, (6.0, 6.0 * 2**-stops), strict=True)
    )
    env = lamp(first, sizes[0], strong) + lamp(second, sizes[1], weak) + 0.2
    lights = find_key_lights(env).lights
    assert len(lights) == 2
    for light, direction, size in zip(lights, (first, second), sizes, strict=True):
        assert angle(light, direction) < 1
        assert light.angular_diameter == pytest.approx(2 * size, rel=0.06, abs=0.7)
    assert lights[0].stops - lights[1].stops == pytest.approx(stops, abs=0.1)


def test_a_bulb_before_a_window_hides_neither() -> None:
    centre = F.normalize(torch.tensor([0.6, 0.3, 0.7]), dim=0)
    bulb_at = F.normalize(torch.tensor([0.62, 0.35, 0.7]), dim=0)
    env = lamp(centre, 20, torch.full((3,), 5.0)) + lamp(bulb_at, 1.5, torch.full((3,), 2000.0)) + 0.1
    bulb, window = find_key_lights(env).lights
    assert angle(bulb, bulb_at) < 1 and bulb.angular_diameter < 5
    assert angle(window, centre) < 2 and window.angular_diameter == pytest.approx(40, abs=3)


def test_a_soft_lobe_is_one_light() -> None:
    """What an estimated map shows of a lamp: no edge anywhere."""
    axis = F.normalize(torch.tensor([-0.5, 0.4, 0.6]), dim=0)
    lobe = torch.exp(12 * (direction_grid(HEIGHT, 2 * HEIGHT) @ axis - 1))[..., None]
    (light,) = find_key_lights(6 * lobe * torch.tensor([1.0, 0.8, 0.6]) + 0.3).lights
    assert angle(light, axis) < 1
    assert light.color == pytest.approx((1, 0.8, 0.6), abs=0.01)


def test_the_sun_in_a_large_map() -> None:
    direction = F.normalize(torch.tensor([0.7, 0.5, -0.4]), dim=0)
    env = lamp(direction, 0.8, torch.full((3,), 20000.0), height=512) + 0.5
    (sun,) = find_key_lights(env).lights
    assert angle(sun, direction) < 0.2 and sun.angular_diameter == pytest.approx(1.6, abs=0.2)
    assert sun.stops == pytest.approx(math.log2(20000 * math.sin(math.radians(0.8)) ** 2), abs=0.15)


@pytest.mark.parametrize("level", [0.0, 0.01, 1.0, 400.0])
def test_an_even_map_has_no_light(level: float) -> None:
    lighting = find_key_lights(torch.full((HEIGHT, 2 * HEIGHT, 3), level))
    assert lighting.lights == () and lighting.ambient == pytest.approx([level] * 3)


def test_noise_and_a_slow_gradient_are_no_light() -> None:
    grid = direction_grid(HEIGHT, 2 * HEIGHT)
    noise = 1 + 0.3 * torch.rand(HEIGHT, 2 * HEIGHT, 3, generator=torch.Generator().manual_seed(0))
    assert find_key_lights(noise).lights == ()
    assert find_key_lights((1 + 0.3 * grid[..., 1:2]).expand(-1, -1, 3).contiguous()).lights == ()


def test_a_clearer_light_is_surer() -> None:
    direction = F.normalize(torch.tensor([0.3, 0.3, 0.9]), dim=0)
    disc = lamp(direction, 25, torch.full((3,), 4.0))
    sure = [find_key_lights(disc + ambient).lights[0].confidence for ambient in (0.01, 0.2, 1.0)]
    assert sure == sorted(sure, reverse=True) and sure[0] > 0.98 and sure[2] < 0.8


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_light_that_cannot_be(bad: float) -> None:
    env = torch.ones(64, 128, 3)
    env[3, 4, 1] = bad
    with pytest.raises(DelitError, match="finite and not negative"):
        find_key_lights(env)
