"""Plates on disk: single frames and numbered sequences of EXR, TIFF and PNG, with all that their files say.

What goes out is what came in but for its pixels: the frame's number, alpha, data window, and the header (time code,
camera, lens …) are kept.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .atomic_write import atomic_write, is_hidden
from .coding import CHROMATICITIES, SRGB, Coding
from .errors import DelitError
from .exr_header import check_exr_header
from .lazy_openimageio import oiio
from .oiio_files import check_length, check_spec, existing_file, header_of, read_values

if TYPE_CHECKING:
    from OpenImageIO import ImageSpec

logger = logging.getLogger(__name__)

PLATE_SUFFIXES = (".exr", ".tif", ".tiff", ".png")
PIXEL_TYPES = {
    ".exr": ("half", "float"),
    ".tif": ("uint16", "float"),
    ".tiff": ("uint16", "float"),
    ".png": ("uint16",),
}
LARGEST_HALF = 65504.0
FARTHEST = 2**30
"""Pixels from the origin that a data or display window may lie: its corners are 32-bit integers."""
# Two primaries that differ by less are the same, rounded.
CHROMATICITY_TOLERANCE = 0.002

_NUMBERED = re.compile(r"^(?P<stem>.*?)(?P<frame>\d+)(?P<suffix>\.\w+)$")
_PATTERN = re.compile(r"^(?P<stem>[^#]*)(?P<hashes>#+)(?P<suffix>\.\w+)$")
# What describes the old file's storage, not the picture in it.
_STORAGE = (
    "oiio:",
    "openexr:",
    "compression",
    "chromaticities",
    "Orientation",
    "tiff:",
    "png:",
    "ICCProfile",
)


@dataclass(frozen=True)
class Window:
    """Which part of the frame the pixels are (OpenEXR's data window in its display window), in pixels."""

    x: int
    y: int
    full_x: int
    full_y: int
    full_width: int
    full_height: int


@dataclass(frozen=True)
class PlateHeader:
    """What a frame's file says besides its pixels.

    Attributes:
        frame: its number, where the file's name has one.
        window: where its pixels lie, None for all of the frame.
        attributes: (name, OpenImageIO type, value) of its header.
    """

    frame: int | None = None
    window: Window | None = None
    attributes: tuple[tuple[str, str, Any], ...] = ()


@dataclass(frozen=True)
class Plate:
    """One frame.

    Attributes:
        pixels: [H, W, 3] float32, as stored: linear light of any range from float files, [0, 1] from integer ones.
        alpha: [H, W] in [0, 1], None where the file has none. As stored: multiplied in in EXR, not in PNG and TIFF.
        coding: what the file says of its coding; None where it has primaries that Delit does not know.
        header: see PlateHeader.
    """

    pixels: Tensor
    alpha: Tensor | None
    coding: Coding | None
    header: PlateHeader


def find_plates(folder: Path) -> list[str]:
    """Names of the plates under a folder, with subfolders; a numbered sequence of two or more as `name.####.exr`."""
    names: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in PLATE_SUFFIXES or is_hidden(path) or not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        match = _NUMBERED.match(name)
        hashed = None if match is None else f"{match['stem']}{'#' * len(match['frame'])}{match['suffix']}"
        names[name] = 1
        if hashed is not None:
            names[hashed] = names.get(hashed, 0) + 1
    sequences = {name for name, count in names.items() if "#" in name and count > 1}
    singles = [name for name in names if "#" not in name and sequence_name(name) not in sequences]
    return sorted(sequences) + singles


def frames_of(path: Path, first: int = 0, count: int = 0) -> list[Path]:
    """The files of a plate: the file itself, or of `name.####.exr` those that are there, in order of their numbers.

    Args:
        path: a file, or a pattern whose #s stand for the frame's number.
        first: the number to begin with; 0 is the first that is there.
        count: how many frames at most; 0 is all.

    Raises:
        DelitError: where no file is there.
    """
    match = _PATTERN.match(path.name)
    if match is None:
        return [existing_file(path)]
    found = {}
    if path.parent.is_dir():
        for file in path.parent.iterdir():
            number = _NUMBERED.match(file.name)
            if number and sequence_name(file.name) == path.name:
                found[int(number["frame"])] = file
    if not found:
        raise DelitError(f"There is no frame of {path}. Each # stands for one digit of the frame's number.")
    chosen = [found[number] for number in sorted(found) if number >= first]
    if not chosen:
        raise DelitError(f"{path} has the frames {min(found)} to {max(found)}; none from {first} on.")
    return chosen[:count] if count else chosen


def read_plate(path: str | os.PathLike) -> Plate:
    """Read a frame at its full range.

    Raises:
        DelitError: for a file that is missing, damaged, no picture, has no colour, or holds values that are not finite.
    """
    file = existing_file(path)
    check_exr_header(file)
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)
    opened = oiio.ImageInput.open(str(file), config)
    if opened is None:
        raise DelitError(
            f"{file} cannot be read as a picture: {oiio.geterror() or 'unknown format'}. Export it again."
        )
    spec = opened.spec()
    check_spec(file, spec)
    check_length(file, opened.format_name())
    pixels = read_values(file, opened)
    color, alpha = _channels(spec.channelnames, file)
    if not np.isfinite(pixels[..., color]).all():
        row, column = np.argwhere(~np.isfinite(pixels[..., color]).all(axis=-1))[0]
        raise DelitError(
            f"{file} holds values that are NaN or infinite, the first at row {row}, column {column}. Repair them first."
        )
    window = Window(spec.x, spec.y, spec.full_x, spec.full_y, spec.full_width, spec.full_height)
    whole = window == Window(0, 0, 0, 0, spec.width, spec.height)
    attributes = tuple(entry for entry in header_of(spec) if not entry[0].startswith(_STORAGE))
    header = PlateHeader(frame_number(file), None if whole else window, attributes)
    return Plate(
        torch.from_numpy(np.ascontiguousarray(pixels[..., color])),
        None if alpha is None else torch.from_numpy(np.ascontiguousarray(pixels[..., alpha])),
        _coding_of(spec),
        header,
    )


def write_plate(
    path: str | os.PathLike,
    pixels: Tensor,
    *,
    alpha: Tensor | None = None,
    pixel_type: str = "half",
    coding: Coding = "linear Rec.709",
    header: PlateHeader | None = None,
    extra: dict[str, str] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a frame, whole or not at all.

    Args:
        path: ends in .exr, .tif or .png.
        pixels: [H, W, 3]. alpha: [H, W] or None.
        pixel_type: "half" or "float" for EXR, "uint16" or "float" for TIFF, "uint16" for PNG.
        coding: of the pixels; an EXR's header gets its primaries.
        header: of the frame that these pixels were made from: its window and attributes are written again.
        extra: more header strings.
        overwrite: whether a file that is there is replaced.

    Raises:
        DelitError: for values that are not finite or that the format cannot hold, and for what cannot be written.
    """
    suffix = Path(path).suffix.lower()
    _check_writable(path, suffix, pixels, alpha, pixel_type)
    header = header or PlateHeader()
    parts = [pixels] if alpha is None else [pixels, alpha[..., None]]
    values = torch.cat([part.detach().cpu().float() for part in parts], dim=-1)
    if pixel_type == "half":
        values = values.clamp(-LARGEST_HALF, LARGEST_HALF)
    spec = _spec(values.shape, pixel_type, coding if suffix == ".exr" else None, header, extra or {})
    with atomic_write(path, overwrite) as temporary:
        _write(temporary, np.ascontiguousarray(values.numpy()), spec)
        if not _reads_back(temporary, tuple(values.shape)):
            raise OSError("the file did not reach the disk whole")


def numbered_name(prefix: str, version: int, frame: int, suffix: str) -> str:
    """`prefix_v001.1001.exr`: the frame's number before the suffix, four digits at least, as compositors read it."""
    return f"{prefix}_v{version:03}.{frame:04}{suffix}"


def frame_number(path: Path) -> int | None:
    """The number at the end of a file's name, before its suffix."""
    match = _NUMBERED.match(path.name)
    return int(match["frame"]) if match else None


def sequence_name(name: str) -> str:
    """A frame's name with #s for the digits of its number, or the name as it is where it has none."""
    match = _NUMBERED.match(name)
    return name if match is None else f"{match['stem']}{'#' * len(match['frame'])}{match['suffix']}"


def _channels(names: tuple[str, ...], file: Path) -> tuple[list[int], int | None]:
    """Indices of red, green and blue (or of grey three times) and of alpha, of a file's first layer that has them."""
    short = [name.rsplit(".", 1)[-1].upper() for name in names]
    alpha = short.index("A") if "A" in short else None
    if all(letter in short for letter in "RGB"):
        return [short.index(letter) for letter in "RGB"], alpha
    grey = [index for index in range(len(names)) if index != alpha]
    if len(grey) == 1:
        return grey * 3, alpha
    raise DelitError(
        f"{file} has the channels {', '.join(names)}; a plate has R, G and B, or one grey channel. Export its colour."
    )


def _coding_of(spec: ImageSpec) -> Coding | None:
    if str(spec.format) not in ("half", "float", "double"):
        return SRGB
    stored = spec.getattribute("chromaticities")
    if stored is None:
        return "linear Rec.709"
    if not isinstance(stored, tuple) or len(stored) != 8:
        return None
    for coding, values in CHROMATICITIES.items():
        if max(abs(a - b) for a, b in zip(stored, values, strict=True)) < CHROMATICITY_TOLERANCE:
            return coding
    return None


def _check_writable(
    path: str | os.PathLike, suffix: str, pixels: Tensor, alpha: Tensor | None, pixel_type: str
) -> None:
    if pixel_type not in PIXEL_TYPES.get(suffix, ()):
        known = "; ".join(f"{name}: {', '.join(types)}" for name, types in PIXEL_TYPES.items())
        raise DelitError(f"{path} cannot be written as {pixel_type}. What there is: {known}.")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise DelitError(f"Expected one plate [height, width, 3], got {list(pixels.shape)}.")
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        raise DelitError(
            f"The alpha is {list(alpha.shape)}, its plate {list(pixels.shape[:2])}; make them one size."
        )
    if not torch.isfinite(pixels).all():
        raise DelitError(f"The plate for {path} holds values that are NaN or infinite. Repair them first.")
    if pixel_type == "uint16" and (pixels.min() < -0.01 or pixels.max() > 1.01):
        raise DelitError(
            f"The plate's values run from {pixels.min().item():.3g} to {pixels.max().item():.3g}, but {suffix} of 16 "
            "bits holds 0 to 1. Save it as EXR, which clips nothing."
        )


def _spec(
    shape: torch.Size, pixel_type: str, coding: Coding | None, header: PlateHeader, extra: dict[str, str]
) -> ImageSpec:
    height, width, count = shape
    spec = oiio.ImageSpec(width, height, count, pixel_type)
    spec.channelnames = ("R", "G", "B", "A")[:count]
    spec.alpha_channel = 3 if count == 4 else -1
    for name, kind, value in header.attributes:
        try:
            spec.attribute(name, oiio.TypeDesc(kind), value)
        except (TypeError, ValueError, OverflowError, SystemError, RuntimeError):
            logger.info("%r of the plate's header cannot be written and was left out.", name)
    spec.attribute("compression", "zip")
    if coding is None:
        spec.attribute("oiio:UnassociatedAlpha", 1)
    elif coding in CHROMATICITIES:
        values = CHROMATICITIES[coding]
        spec.attribute("chromaticities", f"float[{len(values)}]", values)
    for name, value in {"Software": "Delit", **extra}.items():
        spec.attribute(name, value)
    if header.window is not None and coding is not None:
        window = header.window
        if any(abs(value) >= FARTHEST for value in vars(window).values()):
            raise DelitError(f"The plate's {window} reaches past what an EXR file can hold.")
        spec.x, spec.y = window.x, window.y
        spec.full_x, spec.full_y = window.full_x, window.full_y
        spec.full_width, spec.full_height = window.full_width, window.full_height
    return spec


def _write(path: Path, pixels: np.ndarray, spec: ImageSpec) -> None:
    # The file is complete only once the writer is gone, not at close(): it must not outlive this call.
    writer = oiio.ImageOutput.create(str(path))
    if writer is None or not writer.open(str(path), spec):
        raise OSError(
            (writer.geterror() if writer else oiio.geterror()) or "the file cannot be opened for writing"
        )
    if not writer.write_image(pixels) or not writer.close():
        raise OSError(writer.geterror() or "the pixels cannot be written")


def _reads_back(path: Path, shape: tuple[int, ...]) -> bool:
    """A full disk's last flush fails silently; only the file tells."""
    reader = oiio.ImageInput.open(str(path))
    if reader is None:
        oiio.geterror()
        return False
    spec = reader.spec()
    pixels = reader.read_image(0, 0, 0, spec.nchannels, "float")
    return pixels is not None and pixels.size == shape[0] * shape[1] * shape[2]
