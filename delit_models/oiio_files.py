"""OpenImageIO reduced to what Delit needs: whole images as arrays, with errors that are never lost."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import TiffImagePlugin

from .atomic_write import check_name
from .errors import DelitError
from .exr_header import check_exr_header
from .lazy_openimageio import is_installed, oiio
from .presence import is_file, is_folder

if TYPE_CHECKING:
    from OpenImageIO import ImageInput, ImageSpec

logger = logging.getLogger(__name__)

HDR_FORMATS = ("openexr", "hdr")
"""OpenImageIO's names of the formats that hold linear light."""

HDR_SUFFIXES = (".exr", ".hdr")

MOST_VALUES = 2**30
"""Pixels times channels of a picture: 4 GiB as float32."""

MOST_VALUES_A_BYTE = 5000
"""What the densest compression makes of a byte; deflate, in PNG, EXR and TIFF, ends at about 1000."""

ALWAYS_READ = 2**24
"""Values that are read whatever the file's size: they take 64 MB."""

# TIFF's tags of where its pixels are: offsets and lengths, of strips and of tiles.
_PIECES = ((273, 279), (324, 325))

Attribute = str | int | float | tuple[float, ...]


@dataclass(frozen=True)
class OiioImage:
    """`pixels` [H, W, C] float32 (integers scaled to [0, 1], alpha not multiplied in), channel names in
    order, the format's name as OpenImageIO gives it ("openexr", "png" …), the stored pixel type ("half",
    "uint16" …), and the header as text."""

    pixels: np.ndarray
    channels: tuple[str, ...]
    format_name: str
    pixel_type: str
    attributes: dict[str, str]


def existing_file(path: str | os.PathLike) -> Path:
    """The path, or DelitError where no file is there."""
    file = Path(path)
    check_name(file)
    if is_file(file):
        return file
    if is_folder(file):
        raise DelitError(f"{file} is a folder, not a file. Give the path of an image in it.")
    raise DelitError(f"There is no file {file}. Check the path and its spelling.")


def pixel_type_of(path: Path) -> tuple[str, str]:
    """(format name, stored pixel type) from a file's header; ("", "") where OpenImageIO cannot read it or is not there
    (Pillow reads ordinary pictures without it). Raises DelitError as `check_exr_header` does."""
    if not is_installed() and path.suffix.lower() not in HDR_SUFFIXES:
        return "", ""
    check_exr_header(path)
    image_input = oiio.ImageInput.open(str(path))
    if image_input is None:
        oiio.geterror()  # Left unread, the message would be printed when Python exits.
        return "", ""
    return image_input.format_name(), str(image_input.spec().format)


def read_pixels(path: str | os.PathLike) -> OiioImage:
    """Read an image's first part at full size, turned upright.
    Raises DelitError for a file that is missing, damaged, cut short or no image, or that shows only a
    window of its frame."""
    file = existing_file(path)
    check_exr_header(file)
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)
    image_input = oiio.ImageInput.open(str(file), config)
    if image_input is None:
        raise DelitError(
            f"{file} cannot be read as an image: {oiio.geterror() or 'unknown format'}. It is damaged, cut "
            "short or of another kind: export it again, as EXR or HDR for light and as PNG, JPEG, WebP or "
            "TIFF for a picture."
        )
    spec = image_input.spec()
    check_spec(file, spec)
    check_length(file, image_input.format_name())
    if (spec.width, spec.height) != (spec.full_width, spec.full_height):
        raise DelitError(
            f"{file} stores {spec.width} x {spec.height} pixels of a {spec.full_width} x {spec.full_height} "
            "frame (its data window differs from its display window). Crop or fill it to its frame and save "
            "it again."
        )
    return OiioImage(
        pixels=_upright(read_values(file, image_input), spec),
        channels=tuple(spec.channelnames),
        format_name=image_input.format_name(),
        pixel_type=str(spec.format),
        attributes={name: str(value) for name, _, value in header_of(spec)},
    )


def check_spec(file: Path, spec: ImageSpec) -> None:
    """`check_promise` of a picture's size, and of the strips (TIFF) or tiles that it is stored in.

    Raises:
        DelitError: naming what is promised.
    """
    check_promise(file, spec.width, spec.height, spec.nchannels)
    # Rows and tiles past the picture's end are usual, such as one tile of 1024 x 1024 for an icon.
    strip = spec.get_int_attribute("tiff:RowsPerStrip", 0) * spec.width * spec.nchannels
    tile = spec.tile_width * spec.tile_height * spec.nchannels
    if strip > MOST_VALUES or tile > max(ALWAYS_READ, 4 * spec.width * spec.height * spec.nchannels):
        raise DelitError(
            f"{file} says that the parts of its {spec.width} x {spec.height} pixels hold {max(strip, tile):,} values: "
            "it is damaged. Copy or export it again."
        )


def read_values(file: Path, opened: ImageInput) -> np.ndarray:
    """All pixels of an opened picture, [H, W, C] float32 as stored.

    Raises:
        DelitError: where they are damaged, cut short or more than there is memory for.
    """
    spec = opened.spec()
    try:
        pixels = opened.read_image(0, 0, 0, spec.nchannels, "float")
    except MemoryError as error:
        raise DelitError(
            f"{file} is {spec.width} x {spec.height} pixels of {spec.nchannels} channels, which this machine's memory "
            "cannot hold. Scale it down."
        ) from error
    # OpenImageIO fills what it cannot read of a TIFF, and then gives both the pixels and the error.
    trouble = opened.geterror()
    if pixels is None or trouble:
        told = trouble.splitlines()[0] if trouble else "its pixels cannot be read"
        raise DelitError(f"{file} is damaged or cut short: {told}. Copy or export it again.")
    return pixels.reshape(spec.height, spec.width, spec.nchannels)


def check_promise(file: Path, width: int, height: int, channels: int) -> None:
    """Refuse a picture whose header promises more than Delit reads or than the file can hold, before memory is taken.

    Raises:
        DelitError: naming what is promised.
    """
    values = width * height * channels
    told = f"{file} says that it is {width} x {height} pixels of {channels} channels"
    if min(width, height, channels) < 1:
        raise DelitError(f"{told}: it is damaged. Copy or export it again.")
    if values > MOST_VALUES:
        raise DelitError(
            f"{told}. Delit reads up to {MOST_VALUES:,} values, such as 16384 x 16384 of 4 channels: the file is "
            "damaged, or has to be scaled down."
        )
    size = file.stat().st_size
    if values > ALWAYS_READ and values > MOST_VALUES_A_BYTE * size:
        raise DelitError(
            f"{told}, which {size:,} bytes cannot hold: it is damaged or cut short. Copy or export it again."
        )


def check_length(file: Path, format_name: str) -> None:
    """Refuse a TIFF that ends before its pixels do: OpenImageIO before 3.1.16 fills what is missing with anything.

    Raises:
        DelitError: naming both lengths.
    """
    if format_name != "tiff":
        return
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
            # A BigTIFF's is twice as long.
            start += opened.read(8) if 43 in start[2:4] else b""
            tags = TiffImagePlugin.ImageFileDirectory_v2(start)
            opened.seek(tags.next)
            tags.load(opened)
        ends = [
            offset + length
            for offsets, lengths in _PIECES
            for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
        ]
    except Exception:
        # Pillow fails on damaged headers in any way it likes; what OpenImageIO says of them counts.
        return
    if ends and max(ends) > size:
        raise DelitError(
            f"{file} is cut short: its pixels end at byte {max(ends):,}, and it has {size:,}. Copy or export it again."
        )


def header_of(spec: ImageSpec) -> list[tuple[str, str, Any]]:
    """(name, OpenImageIO type, value) of what a header says; what is no text as it should be is left out."""
    found = []
    for attribute in spec.extra_attribs:
        try:
            name, kind, value = attribute.name, str(attribute.type), attribute.value
            # OpenImageIO 3.2 gives bytes that are no text as lone surrogates; before, reading them failed.
            for text in (name, *(value if isinstance(value, tuple) else (value,))):
                if isinstance(text, str):
                    text.encode()
        except UnicodeError:
            logger.info("A header's text is damaged and was left out.")
        else:
            found.append((name, kind, value))
    return found


def _upright(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """Undo the stored orientation (EXIF and TIFF 6.0: 1 to 8 say where the first row and column belong)."""
    orientation = spec.get_int_attribute("Orientation", 1)
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flipped_axes = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.ascontiguousarray(np.flip(pixels, flipped_axes))


def write_pixels(
    path: Path,
    pixels: np.ndarray,
    channels: Sequence[str],
    attributes: Mapping[str, Attribute],
    lossless: bool,
) -> None:
    """Write [H, W, C] float16, float32 or uint16 pixels as they are, then read the file back.

    OpenImageIO's writers buffer, and an error of the last flush (a full disk) reaches nobody; only the file
    tells. `lossless`: every pixel must come back the same. Raises OSError where anything failed, leaving
    `path` in an undefined state: call it inside `atomic_write`.
    """
    _write(path, pixels, channels, attributes)
    try:
        written = read_pixels(path)
    except DelitError as error:
        raise OSError(f"the file did not reach the disk whole ({error})") from error
    expected = pixels.astype(np.float32) / (65535.0 if pixels.dtype == np.uint16 else 1.0)
    if written.pixels.shape != pixels.shape or (
        lossless
        and not np.allclose(written.pixels, expected, rtol=0, atol=1e-6 if pixels.dtype == np.uint16 else 0)
    ):
        raise OSError("the file did not reach the disk whole (its pixels read back differently)")


def _write(
    path: Path, pixels: np.ndarray, channels: Sequence[str], attributes: Mapping[str, Attribute]
) -> None:
    height, width, count = pixels.shape
    pixel_type = {"float16": "half", "float32": "float", "uint16": "uint16"}[pixels.dtype.name]
    spec = oiio.ImageSpec(width, height, count, pixel_type)
    spec.channelnames = tuple(channels)
    if "A" in channels:
        spec.alpha_channel = list(channels).index("A")
    for name, value in attributes.items():
        if isinstance(value, tuple):
            spec.attribute(name, f"float[{len(value)}]", value)
        else:
            spec.attribute(name, value)
    # The file is complete only once `image_output` is gone, not at close(): it must not outlive this call.
    image_output = oiio.ImageOutput.create(str(path))
    if image_output is None:
        raise OSError(oiio.geterror() or f"no writer for {path.suffix}")
    if not image_output.open(str(path), spec):
        raise OSError(image_output.geterror() or "the file cannot be opened for writing")
    if not image_output.write_image(np.ascontiguousarray(pixels)) or not image_output.close():
        raise OSError(image_output.geterror() or "the pixels cannot be written")
