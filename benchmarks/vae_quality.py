"""How well a VAE keeps pictures: PSNR of photographs and of a data set's relit pictures, and how steady clips stay.

    python -m benchmarks.vae_quality [PICTURE …] [--data_root D] [--vae V] [--longest 640]

Beside it the linear inverse of the VAE's code, cell by cell, fitted to the pictures of D, or to those given. A clip
is a window on each photograph: it stands still, or the light comes and goes, or it moves as well. How much it jerks
is told after the VAE as a clip, after the VAE frame by frame, and of itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from delit_models.checkpoint import load_wan_vae
from delit_models.color import linear_to_srgb, srgb_to_linear
from delit_models.image_files import read_image
from delit_models.images import VAE_STRIDE
from delit_models.pipeline import EMBEDDED_VAE
from delit_models.wan_vae import WanVAE
from training.data.shards import open_pairs
from training.evaluation.metrics import psnr
from training.heads.linear_code import LinearCode, fit_linear_code
from training.vae.clips import decoded_both_ways, draw_clip, unsteadiness

# Pictures that the linear inverse is fitted to, the side of a clip in pixels, and clips of each picture and kind.
_FITTED, _CLIP, _DRAWN = 24, 128, 3
# Of clips: what they are called, whether they move, whether their light does.
_KINDS = (
    ("stands still", False, False),
    ("light changes", False, True),
    ("moves, light changes", True, True),
)


@torch.inference_mode()
def compare(vae: WanVAE, code: LinearCode, pictures: Iterable[tuple[str, Tensor]]) -> tuple[float, float]:
    """PSNR in dB through the VAE and through the linear inverse: printed where a picture has a name, and the means."""
    rows = []
    for name, picture in pictures:
        x = picture[None] * 2 - 1
        z = vae.encode(x)
        row = [
            psnr((made.clamp(-1, 1) + 1) / 2, picture[None]).item()
            for made in (vae.decode(z), code.decode(z))
        ]
        rows.append(row)
        if name:
            print(f"{name:40} {row[0]:6.2f} dB   linear {row[1]:6.2f} dB", flush=True)
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))


def read_photograph(path: Path, longest: int) -> Tensor:
    """[3, H, W] in [0, 1]: brought down to `longest` pixels where it is larger, cut to multiples of 8."""
    picture = rearrange(read_image(path)[..., :3], "h w c -> 1 c h w")
    share = longest / max(picture.shape[-2:])
    if share < 1:
        picture = F.interpolate(picture, scale_factor=share, mode="bicubic", antialias=True).clamp(0, 1)
    height, width = (side // VAE_STRIDE * VAE_STRIDE for side in picture.shape[-2:])
    return picture[0, :, :height, :width]


def compare_clips(vae: WanVAE, pictures: list[Tensor]) -> None:
    """Print jerks (training.vae.clips.unsteadiness) and PSNR of clips of each kind, as a clip and frame by frame."""
    print("clips              jerk of 255: as clip, frame by frame, itself   PSNR: as clip, frame by frame")
    for name, moves, lit in _KINDS:
        generator = torch.Generator().manual_seed(0)
        rows = [_clip_row(vae, picture, generator, moves, lit) for picture in pictures for _ in range(_DRAWN)]
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        print(f"{name:30} {means[0]:8.2f} {means[1]:15.2f} {means[2]:7.2f} {means[3]:15.1f} {means[4]:15.1f}")


def _clip_row(
    vae: WanVAE, picture: Tensor, generator: torch.Generator, moves: bool, lit: bool
) -> list[float]:
    side = min(_CLIP, *picture.shape[-2:])
    clip = linear_to_srgb(draw_clip(srgb_to_linear(picture), side, generator, moves, lit).clamp(0, 1)) * 2 - 1
    both = [made.clamp(-1, 1) for made in decoded_both_ways(vae, clip)]
    frames = [rearrange(x, "c t h w -> t c h w") / 2 + 0.5 for x in (clip, *both)]
    return [unsteadiness(x) for x in (*both, clip)] + [psnr(x, frames[0]).mean().item() for x in frames[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="*", type=Path, help="photographs")
    parser.add_argument("--data_root", help="data set whose test pictures to measure as well")
    parser.add_argument("--vae", type=Path, default=EMBEDDED_VAE, help="VAE file (the embedded one)")
    parser.add_argument(
        "--longest", type=int, default=640, help="photographs are brought down to so many pixels (640)"
    )
    arguments = parser.parse_args()
    vae = load_wan_vae(arguments.vae, torch.device("cpu"), torch.float32)
    photographs = [read_photograph(path, arguments.longest) for path in arguments.pictures]
    pairs = open_pairs(arguments.data_root, "test") if arguments.data_root else []
    if not (photographs or len(pairs)):
        parser.error("give pictures, or --data_root, or both")
    fitted = [pairs[number].relit for number in range(0, len(pairs), max(1, len(pairs) // _FITTED))]
    if not fitted:
        side = min(min(picture.shape[-2:]) for picture in photographs)
        fitted = [picture[:, :side, :side] for picture in photographs]
    code = fit_linear_code(vae, torch.stack(fitted) * 2 - 1)
    if photographs:
        named = ((path.name, picture) for path, picture in zip(arguments.pictures, photographs, strict=True))
        means = compare(vae, code, named)
        print(f"{len(photographs)} photographs: {means[0]:.2f} dB, linear {means[1]:.2f} dB")
        compare_clips(vae, photographs)
    if len(pairs):
        means = compare(vae, code, (("", pairs[number].relit) for number in range(len(pairs))))
        print(f"{len(pairs)} relit pictures: {means[0]:.2f} dB, linear {means[1]:.2f} dB")


if __name__ == "__main__":
    main()
