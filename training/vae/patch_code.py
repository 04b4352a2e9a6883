"""A Wan-layout VAE whose encoder is a linear patch code, known before any training.

The best linear code of a picture in 16 numbers per 8×8 pixels is its patches' first 16 principal components. An
encoder of the Wan layout can hold that code exactly: residual branches add nothing, strided convolutions gather
2×2 neighbours into channels, and the last of them projects. The layers that cannot be switched off are made
linear: SiLU(x) − SiLU(−x) = x, so the head sees every component with both signs, and one large constant channel
holds the RMS norm still. Only the decoder is left to learn, by plain regression.

In time the encoder keeps every fourth frame, as the still that it is, and the decoder repeats it; how frames between
two of them look is learned later, from clips (training.vae.clips).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from delit_models.errors import DelitError
from delit_models.wan_vae import WanVAE

PATCH = 8
# How far the constant channel stands out over the components, whose spread is 1: the norm then varies by
# about (16 / CONSTANT²) / 2.
CONSTANT = 300.0
# What the encoder says of its own uncertainty. Nothing uses it: encoding returns the mean.
LOG_VARIANCE = -8.0


@dataclass(frozen=True)
class PatchCode:
    """Principal components of 8×8 patches of pictures in [-1, 1].

    Attributes:
        mean: [3, 8, 8], the average patch.
        components: [16, 3, 8, 8], orthonormal.
        scale: [16], the standard deviation of each component; codes are divided by it.
    """

    mean: Tensor
    components: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, pictures: Tensor, components: int = 16) -> PatchCode:
        """Fit to pictures [N, 3, H, W] in [-1, 1] (sides are cut to multiples of 8)."""
        height, width = (side // PATCH * PATCH for side in pictures.shape[-2:])
        patches = rearrange(
            pictures[..., :height, :width], "n c (h p) (w q) -> (n h w) (c p q)", p=PATCH, q=PATCH
        ).double()
        mean = patches.mean(dim=0)
        centred = patches - mean
        variances, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        chosen = vectors.flip(-1).T[:components]
        shape = (3, PATCH, PATCH)
        return cls(
            mean.view(shape).float(),
            chosen.reshape(components, *shape).float(),
            variances.flip(-1)[:components].clamp(min=1e-12).sqrt().float(),
        )

    def encode(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] → code [B, 16, H/8, W/8], each channel of mean 0 and deviation 1 on the fit."""
        weight = self.components / self.scale[:, None, None, None]
        bias = -(weight * self.mean).sum(dim=(1, 2, 3))
        return nn.functional.conv2d(x, weight, bias, stride=PATCH)

    def decode(self, z: Tensor) -> Tensor:
        """The linear inverse: what a decoder has to beat."""
        weight = self.components * self.scale[:, None, None, None]
        patches = nn.functional.conv_transpose2d(z, weight, stride=PATCH)
        return patches + self.mean.repeat(1, z.shape[-2], z.shape[-1])


@torch.no_grad()
def set_linear_encoder(vae: WanVAE, code: PatchCode) -> None:
    """Write a patch code into the VAE's encoder. Raises DelitError if the VAE is too narrow to hold it."""
    width, z_dim = vae.config.dim, vae.config.z_dim
    if width < 12 or code.components.shape[0] != z_dim:
        raise DelitError(
            f"A VAE of width {width} with {z_dim} latent channels cannot hold this patch code; it takes a width of 12 "
            f"or more and {code.components.shape[0]} latent channels."
        )
    encoder = vae.encoder
    _silence_residuals(encoder)
    _zero(encoder.conv1)
    _pass_channels(encoder.conv1, 3)
    gathers = [layer for layer in encoder.downsamples if hasattr(layer, "resample")]
    to_middle, to_code = _factor(code, 2 * width)
    _gather(gathers[0].resample[1])
    _set_gathering(gathers[1].resample[1], to_middle)
    _project(gathers[2].resample[1], to_code, code)
    keep_every_fourth_frame(vae)
    _linear_head(encoder.head, z_dim)
    _identity_1x1(vae.conv1)


@torch.no_grad()
def prepare_decoder(vae: WanVAE) -> None:
    """Start the decoder as a chain without residual branches, which repeats frames in time."""
    _silence_residuals(vae.decoder)
    _identity_1x1(vae.conv2)
    for conv in _time_convolutions(vae.decoder):
        _zero(conv)
        conv.weight[:, :, -1, 0, 0] = torch.eye(conv.in_channels).repeat(2, 1)
    for parameter in vae.decoder.parameters():
        if parameter.ndim == 5 and parameter.shape[2] > 1 and parameter.shape[3] > 1:
            parameter[:, :, :-1] = 0


@torch.no_grad()
def keep_every_fourth_frame(vae: WanVAE) -> None:
    """Let the encoder halve time by taking the second of two frames; stills never meet these convolutions."""
    for conv in _time_convolutions(vae.encoder):
        _zero(conv)
        conv.weight[:, :, -1, 0, 0] = torch.eye(conv.out_channels)


@torch.no_grad()
def fade_between_frames(vae: WanVAE) -> None:
    """Let the decoder double time in even steps: halfway between the frame before and this one, then this one.

    In every Wan VAE these convolutions do not see a clip's first frame. So the steps to its second latent frame are
    dark until training has mended them.
    """
    for conv in _time_convolutions(vae.decoder):
        _zero(conv)
        same = torch.eye(conv.in_channels)
        conv.weight[:, :, -2, 0, 0] = torch.cat([same / 2, torch.zeros_like(same)])
        conv.weight[:, :, -1, 0, 0] = torch.cat([same / 2, same])


def looks_back(vae: WanVAE) -> bool:
    """Whether the decoder's time convolutions use anything but the present frame."""
    return any(bool(conv.weight[:, :, :-1].any()) for conv in _time_convolutions(vae.decoder))


def _time_convolutions(part: nn.Module) -> list[nn.Module]:
    convolutions = [getattr(module, "time_conv", None) for module in part.modules()]
    return [conv for conv in convolutions if conv is not None]


def _silence_residuals(part: nn.Module) -> None:
    """Zero the last layer of every residual branch and attention; make shortcuts pass channels through."""
    for module in part.modules():
        if hasattr(module, "residual"):
            _zero(module.residual[6])
            if not isinstance(module.shortcut, nn.Identity):
                _zero(module.shortcut)
                _pass_channels(module.shortcut, min(module.shortcut.weight.shape[:2]))
        elif hasattr(module, "to_qkv"):
            _zero(module.proj)


def _zero(conv: nn.Module) -> None:
    conv.weight.zero_()
    conv.bias.zero_()


def _pass_channels(conv: nn.Module, channels: int) -> None:
    """Copy the first channels through a causal convolution: the last time slice, the centre of the kernel."""
    centre = conv.weight.shape[-1] // 2
    for channel in range(channels):
        conv.weight[channel, channel, -1, centre, centre] = 1


def _factor(code: PatchCode, width: int) -> tuple[Tensor, Tensor]:
    """Split the projection of 8×8 patches in two: 4×4 patches → channels, and 2×2 of those → the code.

    A 4×4 patch has 48 numbers. A narrower VAE has room for fewer, so the ones that matter least to the code go.

    Returns:
        [middle, 12, 2, 2] and [16, middle, 2, 2], kernels of stride 2, where middle = min(48, width).
    """
    whitened = code.components / code.scale[:, None, None, None]
    # A patch's row is (r3 r2 r1): r1 is gathered first, r2 second, r3 (the coarsest) last. Columns alike.
    by_place = rearrange(
        whitened, "k c (r3 r2 r1) (s3 s2 s1) -> (k r3 s3) (c r1 s1 r2 s2)", r3=2, r2=2, r1=2, s3=2, s2=2, s1=2
    )
    basis = torch.linalg.svd(by_place, full_matrices=False).Vh[:width]
    to_middle = rearrange(basis, "m (c r2 s2) -> m c r2 s2", r2=2, s2=2)
    to_code = rearrange(by_place @ basis.T, "(k r3 s3) m -> k m r3 s3", r3=2, s3=2)
    return to_middle, to_code


def _set_gathering(conv: nn.Module, kernel: Tensor) -> None:
    """Write a kernel of 2×2 into a strided 3×3 convolution, whose window starts at the pixel itself."""
    _zero(conv)
    outputs, inputs = kernel.shape[:2]
    conv.weight[:outputs, :inputs, :2, :2] = kernel


def _gather(conv: nn.Module) -> None:
    """2×2 neighbours of RGB into 12 channels: (colour row column)."""
    kernel = torch.zeros(3, 2, 2, 3, 2, 2)
    for colour in range(3):
        for row in range(2):
            for column in range(2):
                kernel[colour, row, column, colour, row, column] = 1
    _set_gathering(conv, rearrange(kernel, "c r s inputs height width -> (c r s) inputs height width"))


def _project(conv: nn.Module, to_code: Tensor, code: PatchCode) -> None:
    """The last gathering and the projection in one: every component with both signs, and the constant."""
    z_dim = to_code.shape[0]
    _set_gathering(conv, torch.cat((to_code, -to_code)))
    bias = -(code.components / code.scale[:, None, None, None] * code.mean).sum(dim=(1, 2, 3))
    conv.bias[: 2 * z_dim] = torch.cat((bias, -bias))
    conv.bias[2 * z_dim] = CONSTANT


def _linear_head(head: nn.Sequential, z_dim: int) -> None:
    norm, conv = head[0], head[2]
    channels = norm.gamma.shape[0]
    # The norm divides by |x| / √channels, and |x| is the constant channel.
    norm.gamma.fill_(CONSTANT / channels**0.5)
    _zero(conv)
    centre = conv.weight.shape[-1] // 2
    for k in range(z_dim):
        conv.weight[k, k, -1, centre, centre] = 1
        conv.weight[k, z_dim + k, -1, centre, centre] = -1
        conv.bias[z_dim + k] = LOG_VARIANCE


def _identity_1x1(conv: nn.Module) -> None:
    _zero(conv)
    _pass_channels(conv, conv.weight.shape[0])
