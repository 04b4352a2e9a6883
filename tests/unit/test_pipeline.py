"""The pipeline from pictures to result: sizes, masks, batches, clips and streams, on an untrained narrow VAE."""

from __future__ import annotations

import pytest
import torch

from delit_models.env_codec import encode_env
from delit_models.errors import DelitError
from delit_models.heads import DelitConfig, DelitHeads, HeadsOutput
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.stages import decode_light, frames_to_pad
from delit_models.wan_vae import WanVAE, WanVAEConfig


@pytest.fixture(scope="module")
def pipe() -> DelitPipeline:
    torch.manual_seed(0)
    vae = WanVAE(WanVAEConfig(dim=8)).eval().requires_grad_(False)
    heads = DelitHeads(DelitConfig(working_size=96)).eval().requires_grad_(False)
    torch.nn.init.normal_(heads.flat_projection.out.weight, std=0.02)
    return DelitPipeline(vae, heads)


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(64, 64, 3), (97, 131, 3), (240, 71, 1), (128, 200, 4)]
)
def test_any_size_comes_back_at_its_size(pipe, height, width, channels):
    result = pipe(torch.rand(1, height, width, channels))
    assert result.flat.shape == (1, height, width, 3)
    assert result.env.shape == (1, 128, 256, 3)
    assert result.z.shape == result.z_flat.shape
    assert result.flat.min() >= 0 and result.flat.max() <= 1
    assert torch.isfinite(result.env).all() and result.env.min() >= 0


def test_a_batch_of_stills_equals_one_at_a_time(pipe):
    images = torch.rand(3, 72, 80, 3)
    together = pipe(images)
    for index in range(3):
        alone = pipe(images[index : index + 1])
        torch.testing.assert_close(together.flat[index], alone.flat[0])
        torch.testing.assert_close(together.env[index], alone.env[0])


def test_working_size_limits_the_latent_and_not_the_result(pipe):
    picture = torch.rand(1, 160, 320, 3)
    assert pipe(picture).z.shape[-2:] == (8, 16)  # the short side stays at 64
    full = pipe(picture, options=DelitOptions(working_size=4096))
    assert full.z.shape[-2:] == (20, 40) and full.flat.shape == picture.shape


def test_mask_keeps_the_source_outside(pipe):
    picture = torch.rand(1, 96, 96, 3)
    mask = torch.zeros(1, 96, 96)
    mask[:, :, :48] = 1
    result = pipe(picture, mask).flat
    torch.testing.assert_close(result[:, :, 48:], picture[:, :, 48:])
    assert (result[:, :, :48] - picture[:, :, :48]).abs().mean() > 1e-3
    assert pipe(picture, mask, DelitOptions(outside="transparent")).flat.shape[-1] == 4
    with pytest.raises(DelitError, match="masks"):
        pipe(picture.expand(3, -1, -1, -1), mask.expand(2, -1, -1))


def test_what_is_behind_the_subject_stays_to_the_bit_unless_all_is_asked_for(pipe):
    """The left half of a picture is subject: 1 there, 0 elsewhere, but for a seam that follows the picture's edge."""
    picture = torch.rand(1, 96, 130, 3) * 0.2
    picture[:, :, :64] += 0.6

    def heads(z: torch.Tensor) -> HeadsOutput:
        output = pipe.heads(z)
        matte = torch.zeros_like(output.matte)
        matte[..., : 64 // 8] = 1
        return output._replace(z_flat=z + 0.3, matte=matte)

    seen = DelitPipeline(pipe.vae, heads, DelitConfig())
    result = seen(picture, options=DelitOptions(working_size=4096))
    assert result.matte.shape == (1, 96, 130)
    assert torch.equal(result.matte[:, :, 80:], torch.zeros(1, 96, 50))
    assert torch.equal(result.matte[:, :, :48], torch.ones(1, 96, 48))
    torch.testing.assert_close(result.flat[:, :, 80:], picture[:, :, 80:], atol=0, rtol=0)
    assert (result.flat[:, :, :48] - picture[:, :, :48]).abs().mean() > 1e-3
    whole = seen(picture, options=DelitOptions(working_size=4096, area="picture"))
    assert (whole.flat[:, :, 80:] - picture[:, :, 80:]).abs().mean() > 1e-3
    clip = seen(picture.expand(5, -1, -1, -1), options=DelitOptions(working_size=4096, clip=True))
    assert clip.matte.shape == (5, 96, 130)
    own = torch.ones(1, 96, 130)
    torch.testing.assert_close(seen(picture, own, DelitOptions(working_size=4096)).flat, whole.flat)


def test_without_detail_transfer_the_result_is_the_decoded_latent(pipe):
    picture = torch.rand(1, 96, 96, 3)
    result = pipe(picture, options=DelitOptions(detail_transfer=False, area="picture"))
    decoded = (pipe.vae.decode(result.z_flat).clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(result.flat[0].permute(2, 0, 1), decoded[0])


@pytest.mark.parametrize("frames", [1, 2, 5, 7])
def test_a_clip_of_any_length_keeps_its_frames(pipe, frames):
    clip = torch.rand(frames, 64, 72, 3)
    shot = pipe(clip, options=DelitOptions(clip=True))
    assert shot.flat.shape == clip.shape and shot.env.shape == (1, 128, 256, 3)
    moving = pipe(clip, options=DelitOptions(clip=True, env_pooling="frame"))
    assert moving.env.shape == (frames, 128, 256, 3)


@pytest.mark.parametrize("frames", [1, 6])
def test_a_stream_equals_the_clip(pipe, frames):
    clip = torch.rand(frames, 64, 72, 3)
    whole = pipe(clip, options=DelitOptions(clip=True))
    streamed = list(pipe.stream(iter(clip)))
    assert len(streamed) == frames
    torch.testing.assert_close(
        torch.stack([frame.flat for frame in streamed]), whole.flat, atol=1e-5, rtol=1e-4
    )


def test_an_empty_stream_is_refused(pipe):
    with pytest.raises(DelitError, match="no frames"):
        list(pipe.stream(iter([])))


def test_progress_counts_up_to_its_total(pipe):
    for images, total in ((torch.rand(1, 64, 64, 3), 4), (torch.rand(3, 64, 64, 3), 3)):
        steps: list[tuple[int, int]] = []
        pipe(images, progress=lambda done, of, steps=steps: steps.append((done, of)))
        assert steps == [(done, total) for done in range(1, total + 1)]


def test_unusable_pictures_are_refused_before_any_work(pipe):
    for images, told in (
        (torch.zeros(0, 64, 64, 3), "empty"),
        (torch.full((1, 64, 64, 3), 7.0), "linear Rec.709"),
    ):
        with pytest.raises(DelitError, match=told):
            pipe(images)


@pytest.mark.parametrize("shape", [(), (5,), (1, 1, 64, 64)])
def test_a_mask_of_another_form_is_refused(pipe, shape):
    pictures = torch.rand(2, 64, 64, 3)
    for run in (
        lambda mask: pipe(pictures, mask),
        lambda mask: pipe(pictures, mask, DelitOptions(clip=True)),
        lambda mask: next(pipe.stream(pictures, mask)),
    ):
        with pytest.raises(DelitError, match="The mask has shape"):
            run(torch.ones(shape))


def test_frames_to_pad():
    assert [frames_to_pad(n) for n in (1, 2, 3, 4, 5, 6, 81)] == [0, 3, 2, 1, 0, 3, 0]


def test_light_of_a_shot_ignores_a_bad_frame_and_a_moving_light_is_smooth():
    steady = torch.full((1, 3, 128, 256), 2.0)
    broken = torch.full((1, 3, 128, 256), 900.0)
    codes = torch.stack([encode_env(x)[0] for x in (steady, steady, broken, steady, steady)])[None]
    assert decode_light(codes, "shot").max().item() == pytest.approx(2.0, rel=0.01)
    moving = decode_light(codes, "frame", frames=17)
    assert moving.shape[0] == 17
    assert 2.0 < moving[0].mean() < moving[9].mean() < 900
    with pytest.raises(DelitError, match="pool"):
        decode_light(codes, "average")


@pytest.mark.parametrize("shape", [(5,), (4, 8, 16), (1, 3, 8, 16), (0, 4, 8, 16), (1, 2, 5, 8, 16)])
def test_what_is_no_code_of_light_is_refused(shape):
    with pytest.raises(DelitError, match="environment code has shape"):
        decode_light(torch.rand(shape))


@pytest.mark.parametrize("frames", [0, -1, 6, 50])
def test_light_is_not_asked_for_in_frames_that_the_clip_has_not(frames):
    code = torch.rand(1, 2, 4, 8, 16)
    assert len(decode_light(code, "frame", frames=5)) == 5
    with pytest.raises(DelitError, match=f"1 to 5 frames, but {frames}"):
        decode_light(code, "frame", frames=frames)
