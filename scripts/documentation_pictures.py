"""Make the pictures of the documentation anew: run it when weights, portraits or orientations have changed.

    .venv/bin/python scripts/documentation_pictures.py

assets/examples.jpg: each example portrait, flat-lit, and its light. assets/maps/: the labelled test map as the presets
of other programs write it, the programs' axes drawn where their own formulas look for them.

    .venv/bin/python scripts/documentation_pictures.py maps       only these; examples: only those
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from delit_models.color import linear_to_srgb, tone_map  # noqa: E402
from delit_models.image_files import read_image  # noqa: E402
from delit_models.lat_long import labelled_test_map, to_orientation  # noqa: E402
from delit_models.pipeline import DelitPipeline  # noqa: E402
from tests.unit.test_orientation import PROGRAMS, READ_ALIKE, Program, Vector  # noqa: E402

SIDE = 256
QUALITY = 85
MAP_HEIGHT, CAPTION = 320, 40
TITLES = {
    "blender": "Blender",
    "openexr": "USD, Houdini, Arnold",
    "unreal": "Unreal",
    "nuke": "Nuke",
    "three.js": "three.js, Redshift in Maya",
    "cinema 4d": "Cinema 4D's Sky",
}
ALIKE = {"v_ray": "V-Ray in Maya and Houdini"}
AXES = {"X": (1, 0, 0), "Y": (0, 1, 0), "Z": (0, 0, 1)}


def as_picture(pixels: Tensor, size: tuple[int, int]) -> Image.Image:
    """[H, W, 3] sRGB in [0, 1] → a picture of (width, height)."""
    array = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(array).resize(size, Image.LANCZOS)


def examples() -> Image.Image:
    """Two portraits a row, each as source, flat-lit and light; one of the five renders is left out to fill the rows."""
    files = [file for file in sorted((REPOSITORY / "portraits").glob("*.jpg")) if file.stem != "rendered"]
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


def axis_name(direction: Vector) -> str:
    """(0, -1, 0) → “-Y”."""
    name = next(
        name for name, axis in AXES.items() if any(a * d for a, d in zip(axis, direction, strict=True))
    )
    return ("+" if sum(direction) > 0 else "-") + name


def map_for(title: str, preset: str, program: Program) -> Image.Image:
    """The test map as a preset writes it; on it the axes of the program's world, and a caption."""
    width, height = 2 * MAP_HEIGHT, MAP_HEIGHT
    sheet = Image.new("RGB", (width, height + CAPTION), "#202020")
    written = to_orientation(labelled_test_map(2 * MAP_HEIGHT), preset)
    sheet.paste(as_picture(linear_to_srgb(written), (width, height)))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(22)
    names = {program.forward: "ahead", program.right: "right", program.up: "up"}
    opposite = {"ahead": "behind", "right": "left", "up": "down"}
    for axis, side in list(names.items()):
        names[tuple(-part for part in axis)] = opposite[side]
    ahead = program.lookup(*program.forward)[0]
    for axis, side in names.items():
        u, v = program.lookup(*axis)
        text = f"{axis_name(axis)} {side}"
        half = draw.textlength(text, font) / 2 + 4
        # At a pole any u is the same place. A direction at the seam is seen at both ends.
        places = (
            [ahead]
            if side in ("up", "down")
            else [u + turn for turn in (-1, 0, 1) if -0.05 < u + turn < 1.05]
        )
        for place in places:
            x = min(max(place * width, half), width - half)
            y = min(max(v * height, 16), height - 16)
            draw.text((x, y), text, "white", font, anchor="mm", stroke_width=3, stroke_fill="black")
    said = f"{title} · preset {preset} · the camera looks along {axis_name(program.forward)}"
    draw.text((12, height + CAPTION // 2), said, "white", ImageFont.load_default(20), anchor="lm")
    return sheet


def save(picture: Image.Image, name: str) -> None:
    path = REPOSITORY / "assets" / f"{name}.jpg"
    path.parent.mkdir(exist_ok=True)
    picture.save(path, quality=QUALITY, optimize=True)
    print(f"assets/{name}.jpg: {picture.width}×{picture.height}, {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation anew.")
    parser.add_argument(
        "which", nargs="*", choices=["examples", "maps", []], help="which of them (default: all)"
    )
    which = parser.parse_args().which or ["examples", "maps"]
    if "examples" in which:
        save(examples(), "examples")
    if "maps" in which:
        for preset, title in TITLES.items():
            save(map_for(title, preset, PROGRAMS[preset]), f"maps/{re.sub('[. ]', '_', preset)}")
        for name, title in ALIKE.items():
            save(map_for(title, *READ_ALIKE[title]), f"maps/{name}")


if __name__ == "__main__":
    main()
