"""Make the pictures of the documentation anew: run it when weights, portraits or orientations have changed.

    .venv/bin/python scripts/documentation_pictures.py

assets/examples.jpg: each example portrait, flat-lit, and its light. assets/orientations.jpg: the labelled test map as
each orientation preset writes it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from delit_models.color import linear_to_srgb, tone_map  # noqa: E402
from delit_models.image_files import read_image  # noqa: E402
from delit_models.lat_long import ORIENTATIONS, labelled_test_map, to_orientation  # noqa: E402
from delit_models.pipeline import DelitPipeline  # noqa: E402

SIDE = 256
QUALITY = 85


def as_picture(pixels: Tensor, size: tuple[int, int]) -> Image.Image:
    """[H, W, 3] sRGB in [0, 1] → a picture of (width, height)."""
    array = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(array).resize(size, Image.LANCZOS)


def examples() -> Image.Image:
    """Two portraits a row, each as source, flat-lit and light."""
    files = sorted((REPOSITORY / "portraits").glob("*.jpg"))
    pipe = DelitPipeline.embedded("cpu")
    sheet = Image.new("RGB", (8 * SIDE, -(-len(files) // 2) * SIDE))
    for index, file in enumerate(files):
        source = read_image(file)[..., :3].expand(-1, -1, 3)
        result = pipe(source[None])
        left, top = index % 2 * 4 * SIDE, index // 2 * SIDE
        for offset, pixels in enumerate((source, result.flat[0])):
            sheet.paste(as_picture(pixels, (SIDE, SIDE)), (left + offset * SIDE, top))
        sheet.paste(as_picture(tone_map(result.env)[0], (2 * SIDE, SIDE)), (left + 2 * SIDE, top))
    return sheet


def orientations() -> Image.Image:
    """The test map in every preset, three a row, named."""
    test_map = labelled_test_map(SIDE)
    sheet = Image.new("RGB", (6 * SIDE, -(-len(ORIENTATIONS) // 3) * SIDE))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(22)
    for index, preset in enumerate(ORIENTATIONS):
        place = (index % 3 * 2 * SIDE, index // 3 * SIDE)
        sheet.paste(as_picture(linear_to_srgb(to_orientation(test_map, preset)), (2 * SIDE, SIDE)), place)
        draw.rectangle((*place, place[0] + 2 * SIDE - 1, place[1] + SIDE - 1), outline="white")
        draw.text((place[0] + 8, place[1] + 4), preset, fill="white", font=font)
    return sheet


def main() -> None:
    for name, picture in (("examples", examples()), ("orientations", orientations())):
        picture.save(REPOSITORY / "assets" / f"{name}.jpg", quality=QUALITY, optimize=True)
        print(f"assets/{name}.jpg: {picture.width}×{picture.height}")


if __name__ == "__main__":
    main()
