"""How close one picture is to another inside a mask. Pictures are [1, 3, H, W], sRGB-coded in [0, 1]; masks
[1, 1, H, W] in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

from delit_models.color import luminance, srgb_to_linear
from delit_models.errors import DelitError

from .light_metrics import best_scale
from .metrics import psnr

PerceptualDistance = Callable[[Tensor, Tensor, Tensor], float]
"""Picture, truth, mask → one figure."""

DistanceMap = Callable[[Tensor, Tensor], Tensor]
"""Two pictures → how far apart they are at each pixel, [1, 1, H, W]."""

# Linear luminance below which ratios are about noise; and a variance of logarithms below which there is no shading.
_DARK, _EVEN = 0.01, 1e-4

_BACKBONES = {
    "alex": AlexNet_Weights.IMAGENET1K_V1,
    "vgg": VGG16_Weights.IMAGENET1K_V1,
    "squeeze": SqueezeNet1_1_Weights.IMAGENET1K_V1,
}
LPIPS_NETS = tuple(_BACKBONES)


def compare_pictures(
    picture: Tensor, truth: Tensor, mask: Tensor, lpips: PerceptualDistance | None
) -> dict[str, float]:
    """All metrics of a picture against the true one. Names as in `tables.PICTURE_METRICS`."""
    scores = {
        "psnr": psnr(picture, truth, mask).item(),
        "si_psnr": si_psnr(picture, truth, mask),
        "ssim": masked_ssim(picture, truth, mask),
    }
    return scores if lpips is None else scores | {"lpips": lpips(picture, truth, mask)}


def si_psnr(picture: Tensor, truth: Tensor, mask: Tensor) -> float:
    """PSNR in dB after the one factor on the picture's coded values that makes it highest: exposure forgiven.

    A factor on sRGB-coded values is nearly one on light too, as the coding is nearly a power; taken on the values
    that the PSNR is computed from, it can only raise it.
    """
    return psnr(best_scale(picture, truth, mask) * picture, truth, mask).item()


def shading_left(picture: Tensor, relit: Tensor, truth: Tensor, mask: Tensor) -> float:
    """How much of the input's shading is left: 1 where nothing was taken off, 0 where all was.

    The slope of log(picture / truth) on log(relit / truth) over the pixels inside the mask, in linear luminance, each
    with an intercept: exposure is forgiven. NaN where the input is shaded as evenly as the truth.
    """
    made, lit, true = (
        luminance(srgb_to_linear(x), dim=1)[:, None].add(_DARK).log() for x in (picture, relit, truth)
    )
    weight = (mask > 0.5).to(made)
    left, shading = ((x - true) * weight for x in (made, lit))
    count = weight.sum().clamp(min=1)
    left, shading = ((x - x.sum() / count) * weight for x in (left, shading))
    spread = shading.square().sum() / count
    return ((left * shading).sum() / count / spread).item() if spread > _EVEN else math.nan


def masked_ssim(picture: Tensor, truth: Tensor, mask: Tensor) -> float:
    """Mean structural similarity inside the mask, of the pictures with all else painted black (so that what is
    behind the subject does not count where the 11 pixel window reaches over the edge)."""
    _, similarity = structural_similarity_index_measure(
        picture * mask, truth * mask, data_range=1.0, return_full_image=True
    )
    return ((similarity * mask).sum() / (mask.sum() * similarity.shape[1]).clamp(min=1e-8)).item()


def masked_lpips(network: DistanceMap, picture: Tensor, truth: Tensor, mask: Tensor) -> float:
    """Mean LPIPS inside the mask (lower is closer), of the pictures with all else painted black.

    Black, so that what is behind the subject does not count where the network looks over the edge; inside only, so
    that a small subject's errors are not watered down by the black around it.
    """
    distance = network((picture * mask).clamp(0, 1), (truth * mask).clamp(0, 1))
    return ((distance * mask).sum() / mask.sum().clamp(min=1e-8)).item()


def load_lpips(net: str, download: bool = False) -> PerceptualDistance:
    """LPIPS inside the mask (`masked_lpips`), by one of the networks that are trained for it.

    Args:
        net: "alex", "vgg" or "squeeze": the network whose features are compared.
        download: fetch the network's weights if they are not on this machine.

    Raises:
        DelitError: if the weights are not there, or could not be fetched.
    """
    weights = Path(torch.hub.get_dir()) / "checkpoints" / Path(_BACKBONES[net].url).name
    if not (weights.is_file() or download):
        raise DelitError(
            f"the weights of its network “{net}” are not on this machine. Add --download_lpips where there is a "
            f"network connection, or put {weights.name} into torch's hub folder, under checkpoints"
        )
    try:
        metric = LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True)
    except (OSError, RuntimeError) as error:
        raise DelitError(f"the weights of its network “{net}” could not be loaded ({error})") from error

    metric.net.spatial = True
    return partial(masked_lpips, partial(metric.net, normalize=True))
