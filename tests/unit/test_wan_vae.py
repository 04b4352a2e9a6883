"""Stills, clips and streams of the Wan VAE, its gradients and its refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from delit_models import causal_conv as causal_conv_module
from delit_models.causal_conv import FrameMemory, causal_conv, conv3d
from delit_models.errors import DelitError
from delit_models.wan_vae import WanVAE, WanVAEConfig
from delit_models.wan_vae_blocks import upsampled_conv
from tests.unit.wan_vae_samples import random_clip, random_vae, relative_error

REPOSITORY = Path(__file__).resolve().parents[2]
VAE = random_vae(8)
TOLERANCE = 1e-5


def pieces(clip: Tensor, lengths: list[int]) -> Iterator[Tensor]:
    """The clip cut in time into pieces of the given lengths, over and over."""
    start = 0
    while start < clip.shape[2]:
        for length in lengths:
            if start < clip.shape[2]:
                yield clip[:, :, start : start + length]
            start += length


def test_shapes() -> None:
    with torch.inference_mode():
        assert VAE.encode(torch.rand(3, 3, 32, 48)).shape == (3, 16, 4, 6)
        assert VAE.decode(torch.rand(3, 16, 4, 6)).shape == (3, 3, 32, 48)
        assert VAE.encode(torch.rand(2, 3, 9, 16, 24)).shape == (2, 16, 3, 2, 3)
        assert VAE.decode(torch.rand(2, 16, 3, 2, 3)).shape == (2, 3, 9, 16, 24)


def test_config_is_read_from_tensors() -> None:
    state = random_vae(24, z_dim=8, channels=4).state_dict()
    assert WanVAEConfig.from_state_dict(state) == WanVAEConfig(dim=24, z_dim=8, channels=4)


@torch.inference_mode()
def test_a_batch_of_stills_is_not_a_clip() -> None:
    stills = random_clip(1, 32, 24, batch=3)
    together = VAE.encode(stills[:, :, 0])
    one_by_one = torch.cat([VAE.encode(still) for still in stills.split(1)])[:, :, 0]
    assert relative_error(together, one_by_one) <= TOLERANCE
    decoded = VAE.decode(together)
    assert relative_error(decoded, torch.cat([VAE.decode(z) for z in together.split(1)])) <= TOLERANCE


@torch.inference_mode()
def test_the_first_frame_of_a_clip_is_its_still() -> None:
    clip = random_clip(5, 16, 24)
    latents = VAE.encode(clip)
    assert relative_error(latents[:, :, 0], VAE.encode(clip[:, :, 0])) <= TOLERANCE
    assert relative_error(VAE.decode(latents)[:, :, 0], VAE.decode(latents[:, :, 0])) <= TOLERANCE


@settings(max_examples=8)
@given(
    latent_frames=st.integers(1, 4),
    frame_lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    latent_lengths=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    batch=st.integers(1, 2),
)
@torch.inference_mode()
def test_streams_equal_the_whole_clip(
    latent_frames: int, frame_lengths: list[int], latent_lengths: list[int], batch: int
) -> None:
    clip = random_clip(4 * (latent_frames - 1) + 1, 16, 8, batch)
    whole = VAE.encode(clip)
    streamed = list(VAE.encode_stream(pieces(clip, frame_lengths)))
    assert len(streamed) == latent_frames
    assert relative_error(torch.cat(streamed, dim=2), whole) <= TOLERANCE
    frames = list(VAE.decode_stream(pieces(whole, latent_lengths)))
    assert [chunk.shape[2] for chunk in frames] == [1] + [4] * (latent_frames - 1)
    assert relative_error(torch.cat(frames, dim=2), VAE.decode(whole)) <= TOLERANCE


@torch.inference_mode()
def test_clips_of_a_batch_do_not_mix() -> None:
    clips = random_clip(9, 16, 16, batch=2)
    together = VAE.decode(VAE.encode(clips))
    apart = torch.cat([VAE.decode(VAE.encode(clip)) for clip in clips.split(1)])
    assert relative_error(together, apart) <= TOLERANCE


@torch.inference_mode()
def test_a_stream_takes_in_no_more_than_it_needs() -> None:
    taken = 0

    def frames() -> Iterator[Tensor]:
        nonlocal taken
        for _ in range(13):
            taken += 1
            yield random_clip(1, 8, 8)

    counts = []
    for _ in VAE.encode_stream(frames()):
        counts.append(taken)
    assert counts == [1, 5, 9, 13]


PEAK_MEMORY = """
import resource, sys, torch
from tests.unit.wan_vae_samples import random_vae
frames = int(sys.argv[1])
vae = random_vae(16)
with torch.inference_mode():
    for latent in vae.encode_stream(torch.rand(1, 3, 1, 96, 96) for _ in range(frames)):
        pass
    for decoded in vae.decode_stream(torch.rand(1, 16, 1, 12, 12) for _ in range((frames - 1) // 4 + 1)):
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_peak_memory_does_not_grow_with_time() -> None:
    pytest.importorskip("resource", reason="peak memory is measured with Unix's getrusage")

    def peak_megabytes(frames: int) -> float:
        command = [sys.executable, "-c", PEAK_MEMORY, str(frames)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
        return int(done.stdout) / 1024

    short, long = peak_megabytes(17), peak_megabytes(65)
    # 48 more frames kept at one full-resolution layer would be 27 MB.
    assert long - short < 16, f"peak of 17 frames: {short:.0f} MB, of 65 frames: {long:.0f} MB"


def test_gradients_of_stills_reach_the_3d_weights() -> None:
    vae = random_vae(8).requires_grad_(True)
    vae.decode(vae.encode(random_clip(1, 16, 16)[:, :, 0])).square().mean().backward()
    for name, parameter in vae.named_parameters():
        if "time_conv" in name:
            assert parameter.grad is None
        elif parameter.ndim == 5:
            last = parameter.grad[:, :, -1]
            assert last.abs().max() > 0, name
            assert parameter.grad[:, :, :-1].abs().sum() == 0, name
        else:
            assert parameter.grad.abs().max() > 0, name


def test_gradients_of_clips_equal_finite_differences() -> None:
    vae = random_vae(8).double().requires_grad_(True)
    clip = random_clip(5, 8, 8).double()

    def loss() -> Tensor:
        return vae.decode(vae.encode(clip)).square().mean()

    loss().backward()
    for name in ("encoder.downsamples.5.time_conv.weight", "decoder.upsamples.7.resample.1.weight"):
        parameter = dict(vae.named_parameters())[name]
        direction = torch.randn(
            parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        expected = (parameter.grad * direction).sum()
        step = 1e-5
        with torch.no_grad():
            parameter.add_(step * direction)
            above = loss()
            parameter.sub_(2 * step * direction)
            below = loss()
            parameter.add_(step * direction)
        assert ((above - below) / (2 * step) - expected).abs() <= 1e-4 * expected.abs(), name


def test_training_and_inference_modes_agree() -> None:
    vae = random_vae(8).requires_grad_(True)
    clip = random_clip(5, 16, 16)
    with_gradients = vae.decode(vae.encode(clip))
    with torch.inference_mode():
        assert relative_error(vae.decode(vae.encode(clip)), with_gradients) <= TOLERANCE


@torch.no_grad()
def test_changed_weights_take_effect_at_once() -> None:
    vae, other = random_vae(8, seed=1), random_vae(8, seed=2)
    still = random_clip(1, 16, 16)[:, :, 0]
    vae.decode(vae.encode(still))
    vae.load_state_dict(other.state_dict())
    assert torch.equal(vae.encode(still), other.encode(still))
    for parameter, replacement in zip(vae.parameters(), VAE.parameters(), strict=True):
        parameter.data.copy_(replacement.data)
    assert torch.equal(vae.encode(still), VAE.encode(still))


@torch.inference_mode()
def test_contiguous_weights_give_the_same() -> None:
    vae = random_vae(8)
    contiguous = {name: tensor.contiguous() for name, tensor in vae.state_dict().items()}
    vae.load_state_dict(contiguous, assign=True)
    clip = random_clip(5, 16, 16)
    assert relative_error(vae.encode(clip), VAE.encode(clip)) <= TOLERANCE


@torch.inference_mode()
def test_all_black_pixels_are_finite() -> None:
    assert VAE.encode(torch.zeros(1, 3, 16, 16)).isfinite().all()
    assert VAE.decode(torch.zeros(1, 16, 2, 2)).isfinite().all()


@torch.inference_mode()
def test_weights_are_cast_to_the_input() -> None:
    still = random_clip(1, 16, 16)[:, :, 0]
    latent = VAE.encode(still.bfloat16())
    assert latent.dtype == torch.bfloat16
    assert relative_error(latent.float(), VAE.encode(still)) <= 0.05
    assert VAE.decode(latent).dtype == torch.bfloat16


def test_layers_come_from_operations() -> None:
    class CountedConv2d(nn.Conv2d):
        pass

    class CountedConv3d(nn.Conv3d):
        pass

    vae = WanVAE(WanVAEConfig(dim=8), SimpleNamespace(Conv2d=CountedConv2d, Conv3d=CountedConv3d))
    kinds = {type(module) for module in vae.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)}
    assert kinds == {CountedConv2d, CountedConv3d}


@torch.inference_mode()
def test_upsampled_convolution_is_exact() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 4, 3, padding=1).double()
    frames = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    doubled = nn.functional.interpolate(frames, scale_factor=2.0, mode="nearest-exact")
    assert relative_error(upsampled_conv(conv, frames), conv(doubled)) <= 1e-14


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kernel", [3, (3, 1, 1)], ids=["space and time", "time"])
@torch.no_grad()
def test_two_time_steps_at_once_are_exact(
    monkeypatch: pytest.MonkeyPatch, kernel: int | tuple[int, int, int], batch: int
) -> None:
    torch.manual_seed(0)
    # Strips of 8 rows: of 21 rows there are three, the last of them 5 high.
    monkeypatch.setattr(causal_conv_module, "STRIP_ELEMENTS", 1)
    padding = 1 if kernel == 3 else 0
    conv = conv3d(nn, 5, 4, kernel, padding=padding).double()
    clip = torch.randn(batch, 5, 7, 21, 6, dtype=torch.float64)
    memory = FrameMemory(batch)
    chunks = [
        causal_conv(conv, rearrange(chunk, "b c t h w -> (t b) c h w"), memory)
        for chunk in clip.split([1, 2, 2, 1, 1], dim=2)
    ]
    whole = rearrange(torch.cat(chunks), "(t b) c h w -> b c t h w", b=batch)
    expected = nn.functional.conv3d(
        nn.functional.pad(clip, (0, 0, 0, 0, 2, 0)), conv.weight, conv.bias, 1, (0, padding, padding)
    )
    assert relative_error(whole, expected) <= 1e-14


@torch.inference_mode()
def test_a_piece_may_be_written_to_when_it_is_through() -> None:
    clip = random_clip(5, 16, 16)

    def overwritten() -> Iterator[Tensor]:
        for piece in clip.split([1, 4], dim=2):
            # Channels innermost, as in pictures.
            buffer = piece.clone(memory_format=torch.channels_last_3d)
            yield buffer
            buffer.zero_()

    latents = torch.cat(list(VAE.encode_stream(overwritten())), dim=2)
    assert relative_error(latents, VAE.encode(clip)) <= TOLERANCE


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 6, 16, 16), r"6 frames.*Pad it to 9"),
        ((1, 3, 2, 16, 16), r"2 frames.*Pad it to 5"),
        ((1, 3, 20, 16), r"16 x 20.*Pad it to 16 x 24"),
        ((1, 3, 5, 16, 12), r"12 x 16.*Pad it to 16 x 16"),
        ((1, 4, 16, 16), r"\[1, 4, 16, 16\]"),
        ((3, 16, 16), r"\[3, 16, 16\]"),
        ((0, 3, 16, 16), r"\[0, 3, 16, 16\]"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DelitError, match=message):
        VAE.encode(torch.zeros(shape))


def test_integers_are_refused() -> None:
    with pytest.raises(DelitError, match="floating-point"):
        VAE.encode(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(DelitError, match="floating-point"):
        VAE.decode(torch.zeros(1, 16, 2, 2, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (16, 8, 8), (1, 16, 0, 8, 8)])
def test_latents_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DelitError, match="Wan 2.1 VAE"):
        VAE.decode(torch.zeros(shape))


@torch.inference_mode()
def test_streams_refuse_what_does_not_fit() -> None:
    with pytest.raises(DelitError, match="6 frames.*Pad it to 9"):
        list(VAE.encode_stream([random_clip(4, 8, 8), random_clip(2, 8, 8)]))
    with pytest.raises(DelitError, match="0 frames"):
        list(VAE.encode_stream([]))
    with pytest.raises(DelitError, match="must be alike"):
        list(VAE.encode_stream([random_clip(3, 8, 8), random_clip(3, 8, 16)]))
    with pytest.raises(DelitError, match="A stream takes clips"):
        list(VAE.encode_stream([torch.zeros(1, 3, 8, 8)]))
    with pytest.raises(DelitError, match="A stream takes latents"):
        list(VAE.decode_stream([torch.zeros(1, 16, 1, 1)]))
