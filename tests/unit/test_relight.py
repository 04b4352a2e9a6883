"""Relighting: even light gives the flat-lit image back, the light is summed as the integral says, and bounds hold."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from delit_models.coding import from_rec709
from delit_models.color import srgb_to_linear
from delit_models.env_map_files import read_env_map
from delit_models.errors import DelitError
from delit_models.lat_long import direction_grid, sample_env, solid_angles
from delit_models.normals import encode_normals
from delit_models.relight import ROUGHNESS_RANGE, RelightOptions, light_tables, relight
from tests.unit.test_normals import dome

HDRIS = ("studio", "sunset", "hall")


def flat_picture(batch: int = 1, size: int = 96) -> Tensor:
    return torch.rand(batch, size, size, 3, generator=torch.Generator().manual_seed(7))


def normal_map(size: int = 96) -> Tensor:
    return encode_normals(dome(size)[0])[None]


def lamp(direction: tuple[float, float, float], height: int = 128, radius: float = 6.0) -> Tensor:
    """A round lamp of radiance 40, [1, H, 2H, 3]."""
    cosine = direction_grid(height, 2 * height) @ F.normalize(torch.tensor(direction), dim=0)
    return 40 * (cosine > math.cos(math.radians(radius))).float()[None, ..., None].expand(-1, -1, -1, 3)


def hdri(name: str) -> Tensor:
    return read_env_map(f"training/hdris/{name}.exr").radiance


def exact_irradiance(env: Tensor, normals: Tensor) -> Tensor:
    """Irradiance over pi at normals [N, 3], summed over the pixels of a map [H, W, 3] in float64."""
    height, width = env.shape[:2]
    light = (env.double() * solid_angles(height, width).double()[..., None]).flatten(0, 1)
    lit = light.sum(-1) > 0
    cosine = normals.double() @ direction_grid(height, width).double().flatten(0, 1)[lit].T
    return cosine.clamp(min=0) @ light[lit] / math.pi


@given(
    specular=st.floats(0, 4),
    roughness=st.sampled_from((ROUGHNESS_RANGE[0], 0.5, ROUGHNESS_RANGE[1])),
    coding=st.sampled_from(("sRGB", "linear Rec.709", "ACEScg")),
    height=st.sampled_from((16, 64, 100, 256)),
)
def test_even_white_light_gives_the_flat_image_back(
    specular: float, roughness: float, coding: str, height: int
) -> None:
    flat = flat_picture() * (1 if coding == "sRGB" else 8)
    white = torch.ones(1, height, 2 * height, 3)
    options = RelightOptions(specular, roughness, coding)
    relit = relight(flat, normal_map(), white, options=options)
    torch.testing.assert_close(relit.picture, flat, rtol=2e-5, atol=2e-5)
    assert (relit.glossy >= 0).all() and (relit.diffuse >= -1e-6).all()


@pytest.mark.parametrize("name", HDRIS)
def test_diffuse_light_is_the_integral(name: str) -> None:
    """A white matte surface under captured light; the worst normal is within 0.3% of the brightest one's light."""
    env = hdri(name)
    normals = F.normalize(torch.randn(500, 3), dim=-1)
    found = sample_env(light_tables(env, RelightOptions()).diffuse, normals).double()
    expected = exact_irradiance(env, normals)
    error = (found - expected).abs().max() / expected.max()
    print(f"{name}: {error:.5f}")
    assert error < 0.003


def test_a_small_lamp_is_as_bright_as_it_has_to_be() -> None:
    """Lambert's law under a lamp of one degree, finer than the tables: within 0.5% of the light that faces it."""
    env = lamp((0.3, 0.8, 0.6), height=512, radius=0.5)[0]
    normals = F.normalize(torch.randn(500, 3), dim=-1)
    found = sample_env(light_tables(env, RelightOptions()).diffuse, normals).double()
    expected = exact_irradiance(env, normals)
    error = (found - expected).abs().max() / expected.max()
    print(f"{error:.5f}")
    assert error < 0.005


def test_the_glossy_lobe_is_the_sum_over_ggx() -> None:
    """The tables against a plain sum of D(h) (n · l) over the map, the normal along the mirrored view."""
    env, roughness = hdri("studio"), 0.4
    table = light_tables(env, RelightOptions(roughness=roughness)).glossy
    directions = direction_grid(128, 256).double()
    light = env.double().flatten(0, 1)
    for row, column in ((5, 10), (40, 200), (64, 128), (120, 77)):
        mirrored = directions[row, column]
        cosine = (directions.flatten(0, 1) @ mirrored).clamp(min=0)
        half = F.normalize(directions.flatten(0, 1) + mirrored, dim=-1) @ mirrored
        alpha_squared = roughness**4
        lobe = alpha_squared / (math.pi * (half.square() * (alpha_squared - 1) + 1).square())
        weight = lobe * cosine * solid_angles(128, 256).double().flatten()
        expected = weight @ light / weight.sum()
        torch.testing.assert_close(table[row, column].double(), expected, rtol=1e-3, atol=1e-4)


def test_glossy_light_mirrors_and_roughness_spreads_it() -> None:
    """A lamp high above shows as a highlight on the upper half, smaller and brighter on a smoother surface."""
    flat, env = torch.full((1, 96, 96, 3), 0.5), lamp((0.0, 1.0, 1.0))
    options = {"specular": 1.0, "coding": "linear Rec.709"}
    smooth, rough = (
        relight(flat, normal_map(), env, options=RelightOptions(roughness=r, **options)).glossy[0, ..., 1]
        for r in (0.2, 0.8)
    )
    row, column = divmod(int(smooth.argmax()), 96)
    # The half vector between the lamp and the view is the normal of the brightest point.
    normals, _ = dome()
    expected = F.normalize(torch.tensor([0.0, math.sin(math.pi / 4), 1 + math.cos(math.pi / 4)]), dim=0)
    assert normals[row, column] @ expected > math.cos(math.radians(3))
    assert smooth.max() > 5 * rough.max()
    assert (smooth > smooth.max() / 2).sum() < (rough > rough.max() / 2).sum() / 4


def test_light_comes_from_where_it_stands() -> None:
    flat, normals = torch.full((1, 96, 96, 3), 0.5), normal_map()
    for direction, brighter in (
        ((1.0, 0.0, 0.3), (slice(None), slice(56, 90))),
        ((-1.0, 0.0, 0.3), (slice(None), slice(6, 40))),
        ((0.0, 1.0, 0.3), (slice(6, 40), slice(None))),
        ((0.0, -1.0, 0.3), (slice(56, 90), slice(None))),
    ):
        relit = relight(flat, normals, lamp(direction), options=RelightOptions(specular=0)).diffuse[0]
        inside = dome()[1]
        lit = torch.zeros_like(inside)
        lit[brighter] = True
        assert relit[inside & lit].mean() > 2 * relit[inside & ~lit].mean()


@settings(max_examples=8)
@given(scale=st.floats(0.01, 100), coding=st.sampled_from(("linear Rec.709", "ACEScg")))
def test_relighting_is_linear_in_the_light(scale: float, coding: str) -> None:
    flat, options = 5 * flat_picture(), RelightOptions(specular=0.7, coding=coding)
    one, other = hdri("studio")[None], lamp((0.2, 0.4, 1.0))
    parts = [relight(flat, normal_map(), env, options=options) for env in (one, other, one + scale * other)]
    seen = dome()[1]
    for name in ("diffuse", "glossy"):
        first, second, both = (getattr(part, name)[0][seen] for part in parts)
        torch.testing.assert_close(both, first + scale * second, rtol=1e-3, atol=1e-3)


def test_light_is_converted_to_the_plates_primaries() -> None:
    """A red light on a grey ACEScg plate is that red in ACEScg."""
    red = torch.tensor([1.0, 0.1, 0.1])
    env = red.expand(1, 32, 64, 3)
    flat = torch.full((1, 96, 96, 3), 2.0)
    relit = relight(flat, normal_map(), env, options=RelightOptions(specular=0, coding="ACEScg"))
    expected = 2.0 * from_rec709(red, "ACEScg")
    torch.testing.assert_close(relit.picture[0, 48, 48], expected, rtol=1e-4, atol=1e-4)


def test_plates_are_not_clipped_and_pictures_are() -> None:
    env = lamp((0.0, 0.0, 1.0), radius=20)
    for coding, largest in (("sRGB", 1.0), ("linear Rec.709", 2.0)):
        relit = relight(torch.ones(1, 96, 96, 3), normal_map(), env, options=RelightOptions(coding=coding))
        assert 0.9999 * largest < relit.picture.max() < largest * (1.0001 if coding == "sRGB" else 100)
        torch.testing.assert_close(
            srgb_to_linear(relit.picture) if coding == "sRGB" else relit.picture,
            (relit.diffuse + relit.glossy).clamp(max=1 if coding == "sRGB" else math.inf),
            rtol=1e-4,
            atol=1e-4,
        )


def test_outside_the_mask_and_the_normals_nothing_changes() -> None:
    flat, inside = flat_picture(2), dome()[1]
    mask = torch.zeros(1, 96, 96)
    mask[:, :, 48:] = 1
    relit = relight(flat, normal_map(), lamp((1.0, 1.0, 1.0)), mask).picture
    kept = ~inside | (mask[0] == 0)
    torch.testing.assert_close(relit[:, kept], flat[:, kept], atol=1e-5, rtol=0)
    assert (relit - flat)[:, ~kept].abs().mean() > 0.1


def test_alpha_is_kept() -> None:
    flat = torch.cat((flat_picture(), torch.rand(1, 96, 96, 1)), dim=-1)
    relit = relight(flat, normal_map(), lamp((1.0, 1.0, 1.0))).picture
    assert torch.equal(relit[..., 3], flat[..., 3])


@pytest.mark.parametrize("counts", [(1, 1, 3), (3, 1, 1), (3, 3, 3), (1, 3, 1)])
def test_one_of_each_or_as_many(counts: tuple[int, int, int]) -> None:
    flat, normals = flat_picture(counts[0]), normal_map().expand(counts[1], -1, -1, -1)
    env = torch.cat([lamp((math.cos(angle), 0.2, math.sin(angle))) for angle in range(counts[2])])
    relit = relight(flat, normals, env).picture
    assert relit.shape == (3, 96, 96, 3)
    last = relight(flat[-1:], normals[-1:], env[-1:]).picture
    torch.testing.assert_close(relit[2:], last)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"env": torch.ones(1, 64, 64, 3)}, "twice as wide"),
        ({"env": -torch.ones(1, 32, 64, 3)}, "negative"),
        ({"flat": torch.rand(2, 96, 96, 3), "env": torch.ones(3, 32, 64, 3)}, "flat: 2"),
        ({"flat": 3 * torch.ones(1, 96, 96, 3)}, "coding"),
        ({"flat": torch.ones(1, 32, 32, 3)}, "64"),
        ({"mask": torch.ones(3, 8, 8), "flat": torch.rand(2, 96, 96, 3)}, "mask: 3"),
        ({"options": RelightOptions(roughness=0.05)}, "roughness"),
        ({"options": RelightOptions(specular=30)}, "specular"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict, message: str) -> None:
    inputs = {"flat": flat_picture(), "normals": normal_map(), "env": torch.ones(1, 32, 64, 3)} | changed
    with pytest.raises(DelitError, match=message):
        relight(**inputs)
