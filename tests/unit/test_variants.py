"""Variants of a pair: whatever is done to a picture's light is done to its environment, and the target stays true."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from delit_models.color import linear_to_srgb, luminance, srgb_to_linear
from tests.unit.test_latent_cache import PairsInMemory
from training.augment.backgrounds import put_behind
from training.augment.clutter import clutter
from training.augment.dyes import DyeConfig, draw_dye
from training.augment.photography import PhotographyConfig
from training.augment.variants import AugmentConfig, companions_of, unchanged, vary
from training.data.pairs import Pair
from training.synth.person.pigments import MAX_MELANIN, skin_albedo

SIZE = 32
AS_RENDERED = PhotographyConfig(share=0.0)
UNDYED = DyeConfig(share=0.0)
OWN_BACKGROUND = (1.0, 0.0, 0.0, 0.0)


def wall(level: float, light: float) -> Pair:
    """A picture that is subject all over, of albedo 0.5, in an even light; it need not fit into a coded picture."""
    linear = torch.full((3, SIZE, SIZE), level)
    flat = linear_to_srgb(torch.full((3, SIZE, SIZE), 0.5))
    return Pair(
        linear_to_srgb(linear.clamp(max=1)),
        flat,
        torch.ones(1, SIZE, SIZE),
        torch.full((3, 128, 256), light),
        linear,
    )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(seed=st.integers(0, 2**31), count=st.integers(0, 3))
def test_picture_and_environment_stay_one_light(seed, count):
    """A wall of albedo 0.5 shows half the radiance of an even light around it, however many lights are mixed."""
    pairs = PairsInMemory([wall(0.5 * level, level) for level in (0.1, 0.2, 0.05, 0.3)], "aaaa")
    shares = tuple(float(place == count) for place in range(4))
    config = AugmentConfig(
        lights=shares, photography=AS_RENDERED, background=OWN_BACKGROUND, exposure=0.1, dyes=UNDYED
    )
    variant = vary(pairs, 1, [0, 1, 2, 3], config, seeded(seed))
    assert int((variant.gains.sum(dim=1) > 0).sum()) == count + 1
    shown = srgb_to_linear(variant.relit).mean(dim=(1, 2))
    expected = (0.5 * variant.env(pairs).mean(dim=(1, 2))).clamp(max=1)
    torch.testing.assert_close(shown, expected, rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(variant.target, pairs[1].flat, rtol=1e-4, atol=1e-4)


def test_light_that_was_clipped_comes_back_when_it_is_exposed_for():
    """A stop over white, and metered: a coded picture could only have become grey."""
    pairs = PairsInMemory([wall(2.0, 4.0)], "a")
    config = AugmentConfig(
        metered=1.0, exposure=0.0, white_balance=0.0, white_balanced=0.0, photography=AS_RENDERED,
        background=OWN_BACKGROUND, dyes=UNDYED,
    )  # fmt: skip
    variant = vary(pairs, 0, [0], config, seeded(0))
    shown = srgb_to_linear(variant.relit).mean()
    assert 0.1 < shown < 0.5
    torch.testing.assert_close(variant.env(pairs).mean(), 2 * shown, rtol=1e-3, atol=0)


def test_white_balance_takes_most_of_a_colour_out_of_picture_and_light():
    red = wall(0.2, 0.4)
    tint = torch.tensor((2.0, 1.0, 0.5))[:, None, None]
    pair = Pair(red.relit, red.flat, red.mask, red.env * tint, red.relit_linear * tint)
    pairs = PairsInMemory([pair], "a")
    config = AugmentConfig(white_balanced=1.0, white_balance=0.0, photography=AS_RENDERED, metered=1.0)
    for seed in range(8):
        env = vary(pairs, 0, [0], config, seeded(seed)).env(pairs).mean(dim=(1, 2))
        assert 1 <= env[0] / env[2] < 4**0.31


@pytest.mark.parametrize("kind", range(4))
def test_the_target_has_the_background_that_the_picture_has(kind):
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, 8:24, 8:24] = 1
    grid = torch.rand(3, SIZE, SIZE, generator=seeded(3)) * 0.5
    linear = torch.where(mask > 0, torch.full_like(grid, 0.3), grid)
    flat = linear_to_srgb(0.4 * mask.expand(3, -1, -1))
    pair = Pair(linear_to_srgb(linear), flat, mask, torch.ones(3, 128, 256), linear)
    pairs = PairsInMemory([pair, wall(0.1, 0.2)], "ab")
    background = tuple(float(place == kind) for place in range(4))
    config = AugmentConfig(closest_crop=1.0, photography=AS_RENDERED, background=background, dyes=UNDYED)
    variant = vary(pairs, 0, [0], config, seeded(7))
    outside = (variant.mask == 0).expand(3, -1, -1)
    torch.testing.assert_close(variant.target[outside], variant.relit[outside], atol=2e-3, rtol=0)
    inside = (variant.mask == 1).expand(3, -1, -1)
    torch.testing.assert_close(variant.target[inside], linear_to_srgb(torch.full((inside.sum(),), 0.4)))


def test_the_look_is_on_both_and_the_noise_on_one():
    pairs = PairsInMemory([wall(0.2, 0.4)], "a")
    looks = PhotographyConfig(share=1.0, contrast=(0.0, 0.5), saturation=(0.0, 0.5), iso=(3200.0, 3200.0))
    targets = set()
    for seed in range(4):
        variant = vary(pairs, 0, [0], AugmentConfig(photography=looks), seeded(seed))
        targets.add(round(float(variant.target.mean()), 4))
        assert variant.target.std(dim=(1, 2)).max() < 1e-4 < variant.relit.std(dim=(1, 2)).min()
    assert len(targets) == 4


@given(seed=st.integers(0, 2**31))
def test_a_dye_is_another_albedo_in_the_same_light(seed):
    """Half the subject is dyed, the other half, of another hue, is not; the light does not change."""
    albedo = torch.zeros(3, SIZE, SIZE)
    albedo[..., :16] = torch.tensor((0.2, 0.3, 0.5))[:, None, None]
    albedo[..., 16:] = torch.tensor((0.1, 0.6, 0.2))[:, None, None]
    mask = torch.ones(1, SIZE, SIZE)
    pair = Pair(
        linear_to_srgb(0.5 * albedo),
        linear_to_srgb(albedo),
        mask,
        torch.full((3, 128, 256), 0.5),
        0.5 * albedo,
    )
    pairs = PairsInMemory([pair], "a")
    config = AugmentConfig(
        closest_crop=1.0, metered=0.0, exposure=0.0, white_balance=0.0, white_balanced=0.0,
        photography=AS_RENDERED, background=OWN_BACKGROUND, dyes=DyeConfig(share=1.0),
    )  # fmt: skip
    variant = vary(pairs, 0, [0], config, seeded(seed))
    relit, flat = (srgb_to_linear(x) for x in (variant.relit, variant.target))
    torch.testing.assert_close(relit, 0.5 * flat, rtol=2e-3, atol=1e-4)
    assert flat.max() <= 0.9 + 1e-3
    now, before = flat, albedo.flip(-1) if variant.mirrored else albedo
    changed = ((now / before).log2().abs() > 0.05).any(dim=0)
    assert not (changed[:, :16].any() and changed[:, 16:].any())
    assert torch.equal(variant.env(pairs), pair.env)


def drawn_stops(colour: object, config: DyeConfig, count: int = 200) -> torch.Tensor:
    """By how many stops dyes change a material of that flat-lit colour, [count, 3]."""
    material = torch.as_tensor(colour, dtype=torch.float32)[:, None, None].expand(3, 4, 4)
    dyes = [draw_dye(material, torch.ones(1, 4, 4), config, seeded(seed)) for seed in range(count)]
    return torch.stack(dyes)[..., 0, 0].log2()


def test_cloth_takes_any_dye_and_skin_other_tones_of_skin():
    cloth = drawn_stops((0.1, 0.3, 0.6), DyeConfig(share=1.0))
    assert cloth.abs().max() > 4
    tone = skin_albedo(0.6, 0.2)
    stops = drawn_stops(tone, DyeConfig(share=1.0, skin=0.0))
    dyed = torch.from_numpy(tone) * 2**stops
    melanin = torch.linspace(0, MAX_MELANIN, 400)
    line = torch.from_numpy(skin_albedo(melanin.numpy(), 0.2))
    off = (dyed[:, None] / line).log2().abs().amax(dim=2)
    assert off.amin(dim=1).max() < 0.05
    found = melanin[off.argmin(dim=1)]
    assert 0.25 < found.std() < 0.45 and found.min() < 0.1 and found.max() > 1.2


@pytest.mark.parametrize("melanin", [0.0, 0.3, 1.0, MAX_MELANIN])
@pytest.mark.parametrize("blood", [0.0, 0.5])
def test_skin_of_every_tone_is_taken_for_skin(melanin, blood):
    stops = drawn_stops(skin_albedo(melanin, blood), DyeConfig(share=1.0, melanin=0.0))
    assert stops.abs().max() < 0.6


def test_a_variant_is_the_same_for_the_same_seed_and_an_unchanged_one_is_the_pair():
    pairs = PairsInMemory([wall(0.1 * n, 0.2 * n) for n in (1, 2, 3)], "aab")
    one, other = (vary(pairs, 0, [0, 1], AugmentConfig(), seeded(4)) for _ in range(2))
    assert torch.equal(one.relit, other.relit) and torch.equal(one.gains, other.gains)
    same = unchanged(pairs, 2)
    assert torch.equal(same.relit, pairs[2].relit) and torch.equal(same.env(pairs), pairs.light(2))
    assert companions_of(pairs) == {"a": [0, 1], "b": [2]}


def test_a_bright_background_leaves_no_fringe():
    """One step of an 8-bit mask lets a two-hundredth of what was behind through: of the sun, that would be a halo."""
    steps = torch.linspace(0, 1, SIZE).expand(1, SIZE, SIZE)
    true_mask = (steps * 3 - 1).clamp(0, 1)
    coded = (true_mask * 255).round() / 255
    light = 0.2 * true_mask + (1 - true_mask) * torch.full((3, SIZE, SIZE), 500.0)
    assert put_behind(light, coded, torch.zeros(3, SIZE, SIZE)).max() < 0.45


@given(seed=st.integers(0, 2**31))
def test_clutter_is_finite_and_of_a_level(seed):
    picture = clutter(48, 64, seeded(seed))
    assert picture.shape == (3, 48, 64) and bool(torch.isfinite(picture).all()) and picture.min() >= 0
    assert 0.04 < picture.mean() < 0.62


def test_most_clutter_has_sharp_edges():
    pictures = [luminance(clutter(96, 96, seeded(seed)), dim=0) for seed in range(24)]
    sharp = [bool(picture.diff(dim=1).abs().max() > picture.std()) for picture in pictures]
    assert sum(sharp) > 12
