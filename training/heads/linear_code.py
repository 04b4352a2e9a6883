"""The straight line between a VAE's latents and pixels, for where decoding or encoding each would cost too much.

The narrow VAE's encoder *is* linear, but for its norm (training.vae.patch_code): one 8×8 convolution does its work in
a five-hundredth of the time. From latents to pixels the line is only near: a map cell by cell, which gives 29 dB on
photographs with the narrow VAE, and less with Wan's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor

from delit_models.color import linear_to_srgb
from delit_models.images import VAE_STRIDE
from delit_models.wan_vae import WanVAE
from training.augment.clutter import clutter

# A line that is this near to the encoder (relative L2 error) stands in for it; noise in photographs moves latents more.
NEAR_ENOUGH = 0.01
_RIDGE = 1e-5
_MADE_UP, _MADE_UP_SIZE = 24, 128


@dataclass(frozen=True)
class LinearCode:
    """Affine maps between pictures in [-1, 1] and latents, cell by cell.

    Attributes:
        encode_weight: [C, 192], encode_bias: [C]; rows of a cell's 3 × 8 × 8 pixels to its latent.
        decode_weight: [192, C], decode_bias: [192]; the way back.
        encode_error: relative L2 error of the way there, on the pictures that it was fitted to.
    """

    encode_weight: Tensor
    encode_bias: Tensor
    decode_weight: Tensor
    decode_bias: Tensor
    encode_error: float

    @classmethod
    @torch.no_grad()
    def fit(cls, pictures: Tensor, z: Tensor) -> LinearCode:
        """Least squares over pictures [N, 3, H, W] in [-1, 1] and their latents [N, C, H/8, W/8]."""
        cells, latents = _cells(pictures).double(), rearrange(z, "n c h w -> (n h w) c").double()
        to_latent, to_pixels = _regress(cells, latents), _regress(latents, cells)
        code = cls(*(x.float() for x in (*to_latent, *to_pixels)), encode_error=0.0)
        return replace(code, encode_error=code.error(pictures, z))

    def to(self, device: torch.device) -> LinearCode:
        tensors = (self.encode_weight, self.encode_bias, self.decode_weight, self.decode_bias)
        return LinearCode(*(x.to(device) for x in tensors), self.encode_error)

    def error(self, pictures: Tensor, z: Tensor) -> float:
        """Relative L2 error of encoding pictures whose latents are z."""
        return float((self.encode(pictures) - z).norm() / z.norm())

    @property
    def encodes(self) -> bool:
        """Whether `encode` can stand in for the VAE's."""
        return self.encode_error < NEAR_ENOUGH

    def encode(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] → [N, C, H/8, W/8]."""
        height = pictures.shape[-2] // VAE_STRIDE
        z = _cells(pictures) @ self.encode_weight.T + self.encode_bias
        return rearrange(z, "(n h w) c -> n c h w", n=len(pictures), h=height)

    def decode(self, z: Tensor) -> Tensor:
        """[N, C, h, w] → pictures [N, 3, 8h, 8w], about in [-1, 1]; not clamped."""
        cells = rearrange(z, "n c h w -> n h w c") @ self.decode_weight.T + self.decode_bias
        return rearrange(cells, "n h w (c p q) -> n c (h p) (w q)", p=VAE_STRIDE, q=VAE_STRIDE)


@torch.no_grad()
def fit_linear_code(vae: WanVAE, pictures: Tensor) -> LinearCode:
    """The line of a VAE. How it encodes is found on made-up pictures, which few real ones could be too like one another
    for, and judged on `pictures` [N, 3, H, W] in [-1, 1]; how it decodes is found on these."""
    device = next(vae.parameters()).device

    def latents(of: Tensor) -> Tensor:
        return torch.cat([vae.encode(picture[None].to(device)).float().cpu() for picture in of])

    generator = torch.Generator().manual_seed(0)
    made_up = torch.stack([clutter(_MADE_UP_SIZE, _MADE_UP_SIZE, generator) for _ in range(_MADE_UP)])
    made_up = linear_to_srgb(made_up.clamp(0, 1)) * 2 - 1
    # Grain in every pixel: what clutter never shows would be left undecided.
    made_up = (made_up + 0.1 * torch.randn(made_up.shape, generator=generator)).clamp(-1, 1)
    encoding, z = LinearCode.fit(made_up, latents(made_up)), latents(pictures)
    decoding = LinearCode.fit(pictures, z)
    code = replace(decoding, encode_weight=encoding.encode_weight, encode_bias=encoding.encode_bias)
    return replace(code, encode_error=code.error(pictures, z))


def _cells(pictures: Tensor) -> Tensor:
    return rearrange(pictures, "n c (h p) (w q) -> (n h w) (c p q)", p=VAE_STRIDE, q=VAE_STRIDE)


def _regress(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """weight [outputs, inputs] and bias [outputs] of the ridge regression with a tiny ridge."""
    means = inputs.mean(dim=0), outputs.mean(dim=0)
    centred = inputs - means[0]
    gram = centred.T @ centred / len(inputs)
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram + ridge, centred.T @ (outputs - means[1]) / len(inputs)).T
    return weight, means[1] - weight @ means[0]
