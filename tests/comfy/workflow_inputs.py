"""What the shipped workflows expect their user to have put into ComfyUI's input folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from delit_models.color import srgb_to_linear
from delit_models.image_files import read_image
from delit_models.plate_files import write_plate
from tests.comfy.comfyui import REPOSITORY

PORTRAITS = ("photograph", "rendered")
FIRST_FRAME, HIGHLIGHT = 1001, 4.0


def put_workflow_inputs(folder: Path) -> None:
    """A folder of portraits, and a plate of two frames, linear Rec.709, with values over 1."""
    portraits = folder / "portraits"
    portraits.mkdir(parents=True, exist_ok=True)
    for name in PORTRAITS:
        shutil.copy(REPOSITORY / "portraits" / f"{name}.jpg", portraits)
    plates = folder / "plates"
    plates.mkdir(exist_ok=True)
    linear = srgb_to_linear(read_image(REPOSITORY / "portraits" / "photograph.jpg")[..., :3])
    for index in range(2):
        pixels = linear.roll(4 * index, dims=1).clone()
        pixels[:16, :16] = HIGHLIGHT
        write_plate(plates / f"portrait.{FIRST_FRAME + index}.exr", pixels, coding="linear Rec.709")
