"""Are a subject's albedo, normals and depth what `training.synth.render.truth` says of them?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delit_models.errors import DelitError
from delit_models.image_files import read_image
from delit_models.oiio_files import OiioImage, read_pixels

LENGTH_TOLERANCE = 2e-3
"""How far a normal's length may be off 1, or off 0. Half floats round each component by 1/2048 of itself at the most;
the rest is room for other writers' roundings."""


@dataclass(frozen=True)
class TruthCheck:
    """What was found in one file: its size (height, width), None if it cannot be read, and what is wrong with it."""

    size: tuple[int, int] | None
    problems: tuple[str, ...]


def check_truth(kind: str, path: Path) -> TruthCheck:
    """Check one file; `kind` is a key of TRUTH_FILES. Never raises for what is in the file."""
    try:
        size, problems = TRUTH_FILES[kind](path)
    except DelitError as error:
        return TruthCheck(None, (f"{kind}: {error}",))
    return TruthCheck(size, tuple(f"{kind}: {problem}" for problem in problems))


def _albedo(path: Path) -> tuple[tuple[int, int], list[str]]:
    height, width, channels = read_image(path).shape
    return (height, width), ["it is grey; it must be in colour"] if channels < 3 else []


def _normals(path: Path) -> tuple[tuple[int, int], list[str]]:
    image = read_pixels(path)
    problems = _float_problems(image)
    if image.pixels.shape[2] < 3:
        problems.append(f"its channels are {', '.join(image.channels)}; a normal's X, Y and Z are R, G and B")
    if not problems:
        # In double precision: the square of a large float is infinite.
        length = np.linalg.norm(image.pixels[..., :3].astype(np.float64), axis=-1)
        wrong = (length > LENGTH_TOLERANCE) & (np.abs(length - 1) > LENGTH_TOLERANCE)
        if wrong.any():
            problems.append(
                f"{int(wrong.sum())} of its vectors are neither of length 1 nor zero (lengths "
                f"{length[wrong].min():.4g} to {length[wrong].max():.4g}); write unit vectors in -1..1, and zero "
                "outside the mask"
            )
    return image.pixels.shape[:2], problems


def _depth(path: Path) -> tuple[tuple[int, int], list[str]]:
    image = read_pixels(path)
    problems = _float_problems(image)
    if "Z" not in image.channels and len(image.channels) > 1:
        problems.append(f"its channels are {', '.join(image.channels)}; depth is one channel, Z")
    if not problems:
        depth = image.pixels[..., image.channels.index("Z") if "Z" in image.channels else 0]
        negative = int((depth < 0).sum())
        if negative:
            problems.append(
                f"{negative} values are negative (the least is {depth.min():.3g}); write metres in front of the "
                "camera, and zero outside the mask"
            )
    return image.pixels.shape[:2], problems


def _float_problems(image: OiioImage) -> list[str]:
    """What is wrong with a file of numbers, whatever they mean."""
    problems = []
    if image.format_name != "openexr":
        problems.append(f"it is a {image.format_name} file; write .exr")
    unusable = int((~np.isfinite(image.pixels)).sum())
    if unusable:
        problems.append(f"{unusable} values are NaN or infinite")
    return problems


TRUTH_FILES: dict[str, Callable[[Path], tuple[tuple[int, int], list[str]]]] = {
    "albedo": _albedo,
    "normals": _normals,
    "depth": _depth,
}
"""Each file's key in an index line, and what gives its size and problems. Raise DelitError for unreadable files."""
