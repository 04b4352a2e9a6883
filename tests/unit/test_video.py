"""Clips: motion, steadiness without ghosts, windows, pooled light, and the stream through the pipeline."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import groupby

import pytest
import torch
import torch.nn.functional as F

from delit_models.coding import to_rec709
from delit_models.env_codec import encode_env
from delit_models.errors import DelitError
from delit_models.heads import DelitConfig, HeadsOutput
from delit_models.pipeline import FRAMES_A_TURN, DelitOptions, DelitPipeline
from delit_models.video.continuity import is_clip
from delit_models.video.light import MAPS_OF_A_SHOT, ClipLight
from delit_models.video.motion import carry, find_motion
from delit_models.video.steady import REACH, SteadyFrame, steadied
from delit_models.video.windows import NEW_FRAMES, WARM_UP, clip_windows, latent_of_frame


def texture(height: int = 96, width: int = 128, seed: int = 0) -> torch.Tensor:
    """A picture [1, 3, height, width] in [0, 1] with something to hold on to at every scale, as photographs have."""
    random = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for cell in (4, 8, 16, 32):
        coarse = torch.rand(1, 3, -(-height // cell) + 1, -(-width // cell) + 1, generator=random) - 0.5
        total += F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False) * cell**0.5
    return (0.5 + 0.1 * total).clamp(0, 1)


def shifted(picture: torch.Tensor, x: int, size: tuple[int, int]) -> torch.Tensor:
    return picture[..., : size[0], x : x + size[1]]


# Motion


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 1), (-2, 2), (11, -6)])
def test_a_shift_is_found(x: int, y: int):
    whole = texture(160, 200)
    first = whole[..., 30:126, 30:158]
    second = whole[..., 30 - y : 126 - y, 30 - x : 158 - x]
    motion = find_motion(first, second)
    height, width = motion.shape[-2:]
    pixels = motion * torch.tensor((width, height))[:, None, None] - torch.tensor((x, y))[:, None, None]
    inner = pixels[..., 14:-14, 14:-14].norm(dim=1)
    assert inner.median() < 0.1 and inner.quantile(0.95) < 0.5
    assert (carry(second, motion) - first)[..., 14:-14, 14:-14].abs().mean() < 0.02


def test_a_light_that_changes_is_no_motion():
    picture = texture()
    motion = find_motion(picture * 0.5, picture * 0.5 + 0.3)
    assert motion.abs().max() < 1e-3


# Steadiness


def frames_of(pictures: list[torch.Tensor], values: list[torch.Tensor]) -> Iterator[SteadyFrame]:
    for index, (picture, value) in enumerate(zip(pictures, values, strict=True)):
        yield SteadyFrame(picture, value, index)


@pytest.mark.parametrize("count", [*range(1, 11), REACH, REACH + 1, 2 * REACH + 2])
def test_as_many_frames_come_out_as_went_in_and_in_order(count: int):
    picture = texture(32, 32)
    out = list(steadied(frames_of([picture] * count, [torch.full((1, 1, 32, 32), 3.0)] * count)))
    assert [frame.payload for frame in out] == list(range(count))
    for frame in out:
        torch.testing.assert_close(frame.values, torch.full((1, 1, 32, 32), 3.0))
    assert [frame.starts_shot for frame in out] == [True] + [False] * (count - 1)


def test_what_wavers_on_a_pan_is_steadied():
    random = torch.Generator().manual_seed(1)
    whole, size, count = texture(64, 200), (64, 96), 2 * REACH + 6
    true_values = F.interpolate(torch.rand(1, 1, 4, 12, generator=random), size=(64, 200), mode="bicubic")
    pictures = [shifted(whole, 2 * t, size) for t in range(count)]
    noise = [F.interpolate(torch.randn(1, 1, 8, 12, generator=random), size=size) * 0.2 for _ in pictures]
    wavering = [shifted(true_values, 2 * t, size) + noise[t] for t in range(count)]
    out = [frame.values for frame in steadied(frames_of(pictures, wavering))]

    def change(values: list[torch.Tensor]) -> float:
        pairs = zip(values[:-1], values[1:], strict=True)
        return torch.stack([(a[..., 2:] - b[..., :-2]).abs().mean() for a, b in pairs]).mean().item()

    assert change(out) < 0.12 * change(wavering)
    middle = REACH + 2
    error = (out[middle] - shifted(true_values, 2 * middle, size)).abs()
    assert error.mean() < 0.4 * noise[middle].abs().mean()


def test_a_moving_subject_takes_its_change_along_and_leaves_no_ghost():
    """A square with a change of 1 crosses a background with none, 3 pixels a frame."""
    background, subject, count, side = (
        texture(96, 160, seed=2) * 0.5,
        texture(48, 48, seed=3) * 0.5 + 0.5,
        26,
        48,
    )
    pictures, truths = [], []
    for t in range(count):
        picture, truth = background.clone(), torch.zeros(1, 1, 96, 160)
        picture[..., 24 : 24 + side, 12 + 3 * t : 12 + 3 * t + side] = subject
        truth[..., 24 : 24 + side, 12 + 3 * t : 12 + 3 * t + side] = 1
        pictures.append(picture)
        truths.append(truth)
    for t, frame in enumerate(steadied(frames_of(pictures, truths))):
        left, right = 12 + 3 * t, 12 + 3 * t + side
        assert frame.values[..., 30:66, left + 6 : right - 6].min() > 0.9
        # What it has left and what it will cover.
        assert frame.values[..., : max(0, left - 6)].max() < 0.1 if left > 6 else True
        assert frame.values[..., right + 6 :].max() < 0.1


def test_a_cut_is_not_smoothed_across():
    shots = [texture(seed=5)] * 8 + [texture(seed=6)] * 7
    values = [torch.zeros(1, 1, 96, 128)] * 8 + [torch.ones(1, 1, 96, 128)] * 7
    out = list(steadied(frames_of(shots, values)))
    assert [index for index, frame in enumerate(out) if frame.starts_shot] == [0, 8]
    for frame, value in zip(out, values, strict=True):
        torch.testing.assert_close(frame.values, value)


# Windows


@pytest.mark.parametrize("count", [0, 1, 4, 33, 34, 57, 58, 100])
def test_windows_hold_every_frame_once_on_the_latents_grid(count: int):
    seen = []
    for window, known in clip_windows(range(count)):
        assert len(window) <= 1 + WARM_UP + NEW_FRAMES
        assert window[0] % 4 == 0 and (known == 0) == (window[0] == 0)
        seen += window[known:]
    assert seen == list(range(count))
    assert [latent_of_frame(index) for index in range(6)] == [0, 1, 1, 1, 1, 2]


# Light


def test_the_light_of_a_shot_is_the_median_of_evenly_spaced_frames():
    light = ClipLight("shot")
    for index in range(5 * MAPS_OF_A_SHOT):
        light.add(torch.full((2, 4, 3), float(index if index % 7 else 1e6)))
    assert len(light._maps) <= MAPS_OF_A_SHOT + 1
    pooled = light.pooled()
    assert pooled.shape == (1, 2, 4, 3)
    assert pooled.mean().item() == pytest.approx(2.5 * MAPS_OF_A_SHOT, rel=0.25)


def test_a_light_a_frame_moves_smoothly_and_jumps_at_a_cut():
    light = ClipLight("frame")
    for index in range(40):
        wavering = 1.0 + 0.5 * (-1) ** index
        light.add(torch.full((2, 4, 3), wavering + (10 if index >= 20 else 0)), starts_shot=index == 20)
    means = light.pooled().mean(dim=(1, 2, 3))
    assert len(means) == 40
    assert (means[:20] - 1).abs().max() < 0.1 and (means[20:] - 11).abs().max() < 0.1
    with pytest.raises(DelitError, match="pool"):
        ClipLight("average")


# Is it a clip?


def test_a_clip_is_told_from_stills():
    whole = texture(64, 200)
    pan = torch.cat([shifted(whole, 3 * t, (64, 96)) for t in range(8)]).permute(0, 2, 3, 1)
    stills = torch.cat([texture(64, 96, seed=t) for t in range(8)]).permute(0, 2, 3, 1)
    assert is_clip(pan) and not is_clip(stills)
    assert not is_clip(pan[:4])


# The pipeline


class PooledVAE:
    """A VAE by averages: 8 × 8 pixels a cell, and in time what a causal one would average. Good enough to be quick."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 5:
            groups = [x[:, :, :1], *(x[:, :, t : t + 4] for t in range(1, x.shape[2], 4))]
            return torch.stack([self.encode(group.mean(dim=2)) for group in groups], dim=2)
        return F.pad(F.avg_pool2d(x, 8), (0, 0, 0, 0, 0, 13))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        if z.ndim == 5:
            first, *rest = (self.decode(z[:, :, index]) for index in range(z.shape[2]))
            return torch.stack([first, *(frame for frame in rest for _ in range(4))], dim=2)
        return F.interpolate(z[:, :3], scale_factor=8, mode="bilinear")


def brighten(z: torch.Tensor) -> HeadsOutput:
    """Heads that brighten, and say that the light is as bright as the picture."""
    env_shape = (z.shape[0], 3, 128, 256)
    if z.ndim == 5:
        parts = [brighten(z[:, :, index]) for index in range(z.shape[2])]
        z_flat, code, matte = (
            torch.stack(x, dim=d) for x, d in zip(zip(*parts, strict=True), (2, 1, 2), strict=True)
        )
        return HeadsOutput(z_flat, code, matte)
    brightness = (z[:, :3].mean(dim=(1, 2, 3)) + 1)[:, None, None, None]
    return HeadsOutput(z + 0.2, encode_env(brightness.expand(env_shape)), torch.ones_like(z[:, :1]))


def pipeline(temporal: bool = False) -> DelitPipeline:
    return DelitPipeline(PooledVAE(), brighten, DelitConfig(working_size=64, temporal=temporal))


@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("count", [*range(1, 11), 35])
def test_frames_in_are_frames_out(temporal: bool, count: int):
    clip = texture(64, 72).permute(0, 2, 3, 1).expand(count, -1, -1, -1)
    result = pipeline(temporal)(clip, options=DelitOptions(clip=True))
    assert result.flat.shape == result.gain.shape == clip.shape and result.matte.shape == clip.shape[:3]
    assert len(result.z) == len(result.z_flat) == count
    assert result.env.shape == (1, 128, 256, 3)
    # A clip that stands still comes out with all frames alike, and as a still does.
    torch.testing.assert_close(result.flat, result.flat[:1].expand_as(result.flat), atol=1e-5, rtol=1e-5)
    still = pipeline()(clip[:1])
    torch.testing.assert_close(result.flat[:1], still.flat, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(result.env, still.env, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("temporal", [False, True])
def test_no_more_than_a_window_of_frames_is_ever_held(temporal: bool):
    alive: list[weakref.ref] = []
    most = 0

    def frames() -> Iterator[torch.Tensor]:
        nonlocal most
        picture = (texture(64, 72)[0].permute(1, 2, 0) * 255).to(torch.uint8)
        for _ in range(90):
            frame = picture.clone()
            alive.append(weakref.ref(frame))
            yield frame
            del frame
            most = max(most, sum(ref() is not None for ref in alive))

    count = sum(1 for _ in pipeline(temporal).stream(frames()))
    window = 1 + WARM_UP + NEW_FRAMES if temporal else 0
    assert count == 90
    assert most <= 2 * REACH + 3 + window, "memory grows with the clip"


def test_two_decoders_take_turns_of_several_frames():
    turns: list[str] = []

    class NamedVAE(PooledVAE):
        def __init__(self, name: str) -> None:
            self.name = name

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            turns.append(self.name)
            return super().decode(z)

    count = FRAMES_A_TURN + 3
    clip = [texture(64, 72, seed)[0].permute(1, 2, 0) for seed in range(count)]
    config = DelitConfig(working_size=64)
    by_two = list(DelitPipeline(NamedVAE("own"), brighten, config, NamedVAE("flat")).stream(clip))
    by_one = list(pipeline().stream(clip))
    changes = [name for name, _ in groupby(turns)]
    assert turns.count("flat") == turns.count("own") == count
    assert changes == ["flat", "own"] * 2, "each frame changes between the decoders"
    for frame, expected in zip(by_two, by_one, strict=True):
        torch.testing.assert_close(frame.flat, expected.flat)
        torch.testing.assert_close(frame.env, expected.env)


def test_bytes_and_floats_are_the_same_clip():
    bytes_ = (texture(64, 72)[0].permute(1, 2, 0) * 255).to(torch.uint8)
    (one,), (other,) = (list(pipeline().stream([x])) for x in (bytes_, bytes_.float() / 255))
    torch.testing.assert_close(one.flat, other.flat)


def test_plates_of_a_shot_are_exposed_alike():
    dark = texture(64, 72).permute(0, 2, 3, 1) * 0.1
    clip = torch.cat([dark, dark * 40, dark])
    options = DelitOptions(clip=True, coding="ACEScg")
    result = pipeline()(clip, options=options)
    torch.testing.assert_close(result.flat, clip * result.gain)
    assert result.flat.max() > 1 and to_rec709(result.flat, "ACEScg").isfinite().all()
    first, _, last = result.flat
    torch.testing.assert_close(first, last, atol=1e-5, rtol=1e-4)


def test_masks_of_a_clip():
    clip = texture(64, 72).permute(0, 2, 3, 1).expand(3, -1, -1, -1)
    masks = torch.zeros(3, 64, 72)
    masks[1] = 1
    result = pipeline()(clip, masks, DelitOptions(clip=True))
    changed = (result.flat - clip).abs().amax(dim=(1, 2, 3))
    assert changed[0] < 1e-6 and changed[2] < 1e-6 and changed[1] > 0.01
    black = pipeline()(clip, masks, DelitOptions(clip=True, outside="black"))
    assert black.flat[0].max() == 0
    with pytest.raises(DelitError, match="mask"):
        pipeline()(clip, masks[:2], DelitOptions(clip=True))
    with pytest.raises(DelitError, match="masks"):
        list(pipeline().stream(iter(clip), masks[:2]))


def test_frames_of_several_sizes_are_refused():
    with pytest.raises(DelitError, match="one size"):
        list(pipeline().stream([torch.rand(64, 72, 3), torch.rand(64, 80, 3)]))
