"""EXR files of whatever the light stage measures, beside pictures and environment maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from delit_models.atomic_write import atomic_write
from delit_models.oiio_files import write_pixels


def write_exr(path: Path, pixels: np.ndarray, channels: tuple[str, ...]) -> None:
    """Writes [H, W, C] float16 or float32 pixels as they are, whole or not at all."""
    with atomic_write(path) as temporary:
        write_pixels(temporary, pixels, channels, {"compression": "zip", "Software": "Delit"}, lossless=True)
