"""What heads do to skin on photographs, whose flat-lit truth nobody knows: hue and saturation should stay, shading go.

    python -m benchmarks.photographs PICTURE … [--heads H]

Skin is what the heads' own matte holds and is of skin's colour in the photograph, so light that is nearly white is
presupposed. Hue is CIELAB's (D65) of the mean colour, saturation HSV's; brightness is the mean of the luminance in
stops, spread its standard deviation, in which shading and the skin's own pattern are one.
"""

from __future__ import annotations

import argparse
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from skimage.color import rgb2hsv, rgb2lab
from torch import Tensor

from delit_models.color import luminance, srgb_to_linear
from delit_models.image_files import read_image
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE, DelitPipeline

# CIELAB of skin of all tones in light that is nearly white: hue in degrees, chroma, lightness.
_HUE, _CHROMA, _LIGHTNESS = (25, 85), (8, 60), (15, 97)
# What the matte surely holds, the fewest pixels that tell anything, and the darkest luminance that counts.
_INSIDE, _FEWEST, _DARKEST = 0.9, 500, 1e-3


@dataclass(frozen=True)
class Skin:
    """How the skin of a picture looks.

    Attributes:
        hue: in degrees. saturation: 0..1. brightness, spread: of the luminance, in stops.
    """

    hue: float
    saturation: float
    brightness: float
    spread: float


def skin_pixels(picture: Tensor, matte: Tensor) -> Tensor:
    """Where skin is, bool [H, W], of a picture [H, W, 3], sRGB-coded, and its matte [H, W]."""
    lightness, a, b = np.moveaxis(rgb2lab(picture.numpy()), -1, 0)
    hue, chroma = np.degrees(np.arctan2(b, a)), np.hypot(a, b)
    found = matte.numpy() > _INSIDE
    for values, (least, most) in ((hue, _HUE), (chroma, _CHROMA), (lightness, _LIGHTNESS)):
        found &= (least < values) & (values < most)
    return torch.from_numpy(found)


def look_of(pixels: Tensor) -> Skin:
    """How pixels [N, 3] look, sRGB-coded."""
    _, a, b = rgb2lab(pixels.numpy()).mean(axis=0)
    saturation = rgb2hsv(pixels.numpy())[..., 1].mean()
    stops = luminance(srgb_to_linear(pixels)).clamp(min=_DARKEST).log2()
    return Skin(
        float(np.degrees(np.arctan2(b, a))), float(saturation), stops.mean().item(), stops.std().item()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="+", type=Path, help="photographs of people")
    parser.add_argument("--heads", type=Path, default=EMBEDDED_HEADS, help="heads file (the embedded one)")
    arguments = parser.parse_args()
    pipeline = DelitPipeline.load(EMBEDDED_VAE, arguments.heads)
    rows = []
    print(f"{'':40}hue            saturation     brightness      spread")
    for path in arguments.pictures:
        picture = read_image(path)[None, ..., :3]
        made = pipeline(picture)
        where = skin_pixels(picture[0], made.matte[0])
        if where.sum() < _FEWEST:
            print(f"{path.name:40}no skin found")
            continue
        before, after = look_of(picture[0][where]), look_of(made.flat[0][where])
        rows.append((*astuple(before), *astuple(after)))
        print(f"{path.name[-38:]:40}{_told(rows[-1])}", flush=True)
    if not rows:
        raise SystemExit("No picture shows skin: give photographs of people.")
    table = np.array(rows)
    print(f"{f'mean of {len(rows)}':40}{_told(table.mean(axis=0))}")
    moved = np.abs(table[:, 4:] - table[:, :4]).mean(axis=0)
    print(f"{'moved by':40}{moved[0]:6.1f}°{moved[1]:15.2f}{moved[2]:15.2f}{moved[3]:15.2f}")


def _told(row: np.ndarray | tuple[float, ...]) -> str:
    pairs = zip(row[:4], row[4:], strict=True)
    return "".join(
        f"{f'{before:{form}} → {after:{form}}':15}"
        for (before, after), form in zip(pairs, (".0f", ".2f", ".2f", ".2f"), strict=True)
    )


if __name__ == "__main__":
    main()
