"""Detail transfer keeps what it should keep and changes what it should change."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from delit_models.color import linear_to_srgb, srgb_to_linear
from delit_models.detail_transfer import resize_area, transfer_detail


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
