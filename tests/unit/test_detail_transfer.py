"""Detail transfer keeps what it should keep and changes what it should change."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from delit_models import detail_transfer
from delit_models.coding import open_source
from delit_models.color import linear_to_srgb, srgb_to_linear
from delit_models.detail_transfer import EnlargedRows, refine_matte, resize_area, strips, transfer_detail
from delit_models.stages import finish


def high_band(image: torch.Tensor, working_size: tuple[int, int]) -> torch.Tensor:
    """What is finer than the working size can hold."""
    small = resize_area(image, working_size)
    return image - F.interpolate(small, size=image.shape[-2:], mode="bicubic", align_corners=False)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1].item()


def textured(size: int) -> torch.Tensor:
    """A smooth picture with pixel-fine texture over it, as pores and hair are."""
    generator = torch.Generator().manual_seed(0)
    coarse = F.interpolate(torch.rand(1, 3, 6, 6, generator=generator), size=size, mode="bicubic")
    return (0.25 + 0.4 * coarse + 0.05 * torch.randn(1, 3, size, size, generator=generator)).clamp(0.02, 0.98)


def shaded(picture: torch.Tensor) -> torch.Tensor:
    """The picture under a side light that falls off from left to right."""
    falloff = torch.linspace(1.0, 0.25, picture.shape[-1])
    return linear_to_srgb(srgb_to_linear(picture) * falloff)


def test_nothing_changes_where_the_network_changes_nothing():
    source = textured(160)
    reconstruction = resize_area(source, (64, 64))
    torch.testing.assert_close(
        transfer_detail(source, reconstruction, reconstruction), source, atol=1e-5, rtol=0
    )


def test_a_smooth_light_is_taken_off_exactly():
    flat = textured(192)
    source = shaded(flat)
    result = transfer_detail(source, resize_area(source, (96, 96)), resize_area(flat, (96, 96)))
    error = (result - flat).abs()
    assert error.mean() < 0.01 < (source - flat).abs().mean()


@pytest.mark.parametrize("blur", [1, 3])
def test_4k_texture_survives_a_working_size_of_512(blur):
    """The working-size pictures are blurred, as a lossy VAE would, and the texture still comes through."""
    flat = textured(2160)
    source = shaded(flat)
    small = [F.avg_pool2d(resize_area(x, (512, 512)), blur, 1, blur // 2) for x in (source, flat)]
    result = transfer_detail(source, *small)
    inside = (slice(None), slice(None), slice(40, -40), slice(40, -40))
    bands = [high_band(x, (512, 512))[inside] for x in (result, source)]
    assert correlation(*bands) >= 0.98


def test_a_cast_shadow_edge_is_followed():
    """Half of the picture lies in shadow with a hard edge; the edge must not leave a wide halo."""
    flat = torch.full((1, 3, 256, 256), 0.6)
    light = torch.ones(256)
    light[128:] = 0.2
    source = linear_to_srgb(srgb_to_linear(flat) * light)
    result = transfer_detail(source, resize_area(source, (128, 128)), resize_area(flat, (128, 128)))
    error = (result - flat).abs().amax(dim=(0, 1, 2))
    assert error[:112].max() < 0.02 and error[144:].max() < 0.02
    assert error.mean() < 0.03


def test_black_pixels_stay_finite_and_in_range():
    black = torch.zeros(1, 3, 64, 64)
    white = torch.ones(1, 3, 64, 64)
    for flat in (black, white):
        result = transfer_detail(black, black, flat)
        assert torch.isfinite(result).all() and result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize("size", [(150, 40), (31, 64), (40, 30), (7, 90)])
def test_enlarged_rows_are_those_of_the_whole(size):
    image = torch.rand(2, 3, 31, 40, generator=torch.Generator().manual_seed(1))
    whole = F.interpolate(image, size=size, mode="bicubic", align_corners=False)
    enlarged = EnlargedRows.of(image, size)
    for rows in (slice(0, 1), slice(3, 7), slice(0, size[0])):
        torch.testing.assert_close(enlarged.rows(rows), whole[:, :, rows], atol=2e-6, rtol=0)


@pytest.mark.parametrize("coding", ["sRGB", "ACEScg"])
@pytest.mark.parametrize("transfer", [True, False])
def test_strips_leave_no_seams(monkeypatch, coding, transfer):
    """One strip or many: the same result, matte and gain included."""
    source = textured(97).permute(0, 2, 3, 1) * (1 if coding == "sRGB" else 3)
    flat, reconstruction = (textured(64).roll(shift, dims=3) for shift in (0, 5))
    mask = torch.rand(1, 40, 50, generator=torch.Generator().manual_seed(2))

    def finished() -> tuple[torch.Tensor, ...]:
        done = finish(flat, open_source(source, coding), reconstruction if transfer else None, mask)
        return done.flat, done.gain, refine_matte(mask[None], source.permute(0, 3, 1, 2).clamp(0, 1))

    whole = finished()
    for pixels in (1, 97 * 10):
        monkeypatch.setattr(detail_transfer, "STRIP_PIXELS", pixels)
        assert len(list(strips(97, 97))) > 9
        for parts, one in zip(finished(), whole, strict=True):
            torch.testing.assert_close(parts, one, atol=1e-5, rtol=1e-5)
