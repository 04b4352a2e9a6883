"""Environment maps on disk: OpenEXR and Radiance .hdr, lat-long, linear Rec.709 light."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .atomic_write import atomic_write
from .color import srgb_to_linear
from .errors import DelitError
from .lat_long import check_orientation, from_orientation, resample_env, to_orientation
from .oiio_files import HDR_FORMATS, Attribute, OiioImage, read_pixels, write_pixels

logger = logging.getLogger(__name__)

ORIENTATION_ATTRIBUTE = "delit:orientation"
"""Header string of an EXR that names the orientation preset its pixels are in."""

WEIGHTS_ATTRIBUTE = "delit:weights"
"""Header string of an EXR with the hash of the weights that made the map (given in `header`)."""

LARGEST_HALF = 65504.0

# CIE xy of red, green, blue and white (D65): ITU-R BT.709.
REC709_CHROMATICITIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)

ENV_SUFFIXES = (".exr", ".hdr")

# A map this much off 2:1 was cropped or rounded by a tool; further off it is something else.
_RATIO_TOLERANCE_PIXELS = 4


@dataclass(frozen=True)
class EnvMap:
    """A map read from a file: `radiance` [H, 2H, 3] float32, linear, finite and >= 0, in camera axes (the
    "delit" orientation); `attributes`, the file's header as text."""

    radiance: Tensor
    attributes: dict[str, str]


def read_env_map(path: str | os.PathLike, orientation: str | None = None) -> EnvMap:
    """Read a lat-long map and turn it into camera axes.

    `orientation` is the preset that the file is in (lat_long.ORIENTATIONS). None takes the one that Delit
    wrote in an EXR's header, and "delit" (the centre is straight ahead) where there is none: a .hdr cannot
    carry it.

    Light that cannot be is repaired with a logged note: negative values (filter ringing) become 0 and
    infinite ones (a sun too bright for half) 65504. Grey is widened to three channels, alpha dropped, an 8
    or 16 bit picture turned into linear light, each with a note. A map a few pixels off 2:1 is resampled.
    Raises DelitError for a file that is missing, damaged or no image, holds NaN, or is not lat-long.
    """
    if orientation is not None:
        check_orientation(orientation)
    image = read_pixels(path)
    radiance = _repair(_three_channels(image, path), path)
    if image.format_name not in HDR_FORMATS and image.pixel_type not in ("half", "float", "double"):
        logger.warning(
            "%s is a %s picture without high dynamic range: read as sRGB, its light ends at 1.",
            path,
            image.format_name,
        )
        radiance = srgb_to_linear(radiance)
    _note_other_primaries(image, path)
    radiance = _two_to_one(radiance, path)
    stored = orientation or image.attributes.get(ORIENTATION_ATTRIBUTE, "delit")
    return EnvMap(radiance=from_orientation(radiance, stored), attributes=image.attributes)


def write_env_map(
    path: str | os.PathLike,
    env: Tensor,
    *,
    bit_depth: str = "half",
    orientation: str = "delit",
    header: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a map [H, 2H, 3] (linear Rec.709, camera axes) as .exr or .hdr, whole or not at all.

    An EXR has channels R, G, B in `bit_depth` "half" or "float", ZIP compression, the Rec.709
    `chromaticities`, `envmap` = latlong, `delit:orientation` and the strings of `header` (such as
    `delit:weights`), and is exact: half is the rounding of float32, float its very bits. A .hdr has 8 bits
    of mantissa under a shared exponent (within 1% of the brightest channel), no choice of depth, and no
    room for header strings. The pixels are turned into the preset `orientation` (lat_long.to_orientation)
    on the way. In half, values over 65504 become 65504, with a logged note.
    Raises DelitError for NaN, infinite or negative radiance, a map that is not 2:1, another suffix or
    depth, a file that is there while not `overwrite`, and a folder or disk that takes no file.
    """
    suffix = _checked_suffix(path, bit_depth)
    check_env_map(env)
    pixels = to_orientation(env.detach().cpu(), orientation).float().numpy()
    attributes: dict[str, Attribute] = {"Software": "Delit"}
    if suffix == ".exr":
        attributes |= {
            "compression": "zip",
            "chromaticities": REC709_CHROMATICITIES,
            # OpenImageIO's name for OpenEXR's attribute `envmap` = latlong.
            "textureformat": "LatLong Environment",
            ORIENTATION_ATTRIBUTE: orientation,
            **(header or {}),
        }
        if bit_depth == "half":
            pixels = _to_half(pixels, path)
    elif header or orientation != "delit":
        logger.info("%s: a .hdr file holds no header strings; its orientation is %r.", path, orientation)
    with atomic_write(path, overwrite) as temporary:
        write_pixels(temporary, pixels, ("R", "G", "B"), attributes, lossless=suffix == ".exr")


def _checked_suffix(path: str | os.PathLike, bit_depth: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in ENV_SUFFIXES:
        raise DelitError(
            f"Cannot tell the format of {path}: end the name in .exr (OpenEXR) or .hdr (Radiance)."
        )
    if bit_depth not in ("half", "float"):
        raise DelitError(f'Unknown bit depth {bit_depth!r} for an environment map: choose "half" or "float".')
    if suffix == ".hdr" and bit_depth != "half":
        raise DelitError(
            f"{path}: a .hdr file has one depth, shared exponents of 8 bits. Write .exr for 32-bit float."
        )
    return suffix


def check_env_map(env: Tensor) -> None:
    """Raise DelitError unless `env` is one map [H, 2H, 3] in floating point, finite and not negative."""
    if env.ndim != 3 or env.shape[2] != 3 or 0 in env.shape or not env.is_floating_point():
        raise DelitError(
            f"Expected one environment map [H, W, 3] in floating point, got {list(env.shape)} {env.dtype}. "
            "Write the maps of a batch one by one."
        )
    height, width = env.shape[:2]
    if width != 2 * height:
        raise DelitError(
            f"A lat-long map is twice as wide as high, this one is {width} x {height}. "
            f"Resample it first, to {2 * height} x {height} for instance."
        )
    unusable = ~torch.isfinite(env) | (env < 0)
    count = int(unusable.sum())
    if count:
        row, column, channel = unusable.nonzero()[0].tolist()
        raise DelitError(
            f"{count} of {env.numel()} values of the environment map are NaN, infinite or negative; the "
            f"first is {env[row, column, channel].item()} at row {row}, column {column}, channel "
            f"{'RGB'[channel]}. Light is finite and not negative: repair or clamp the map first."
        )


def _to_half(pixels: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    over = int((pixels > LARGEST_HALF).sum())
    if over:
        logger.warning(
            "%s: %d values over 65504, the largest half, were lowered to it (the brightest was %g). Write "
            '"float" to keep them.',
            path,
            over,
            float(pixels.max()),
        )
    return np.minimum(pixels, LARGEST_HALF).astype(np.float16)


def _three_channels(image: OiioImage, path: str | os.PathLike) -> Tensor:
    """R, G, B of an image, by name where it has names (any layer's, as in "beauty.R"), grey widened."""
    by_name: dict[str, int] = {}
    for index, name in enumerate(image.channels):
        by_name.setdefault(name.rsplit(".", 1)[-1].upper(), index)
    if all(name in by_name for name in "RGB"):
        chosen = [by_name[name] for name in "RGB"]
        if len(image.channels) > 3:
            logger.info("%s: only the colour channels were read, of %s.", path, ", ".join(image.channels))
    elif len(image.channels) <= 2:
        chosen = [0, 0, 0]
        logger.info("%s is grey (%s): widened to three equal channels.", path, ", ".join(image.channels))
    else:
        raise DelitError(
            f"{path} has the channels {', '.join(image.channels)}; an environment map has R, G and B (or one "
            "grey channel). Export its colour as RGB."
        )
    return torch.from_numpy(np.ascontiguousarray(image.pixels[..., chosen]))


def _repair(radiance: Tensor, path: str | os.PathLike) -> Tensor:
    unknown = torch.isnan(radiance)
    count = int(unknown.sum())
    if count:
        row, column, channel = unknown.nonzero()[0].tolist()
        raise DelitError(
            f"{path}: {count} of {radiance.numel()} values are not numbers (NaN), the first at row {row}, "
            f"column {column}, channel {'RGB'[channel]}. Repair the map (paint or filter those pixels) and "
            "save it again."
        )
    negative, infinite = int((radiance < 0).sum()), int((radiance == torch.inf).sum())
    if negative:
        logger.warning("%s: %d negative values were set to 0.", path, negative)
    if infinite:
        logger.warning("%s: %d infinite values were set to 65504, the largest half.", path, infinite)
    return torch.where(radiance == torch.inf, LARGEST_HALF, radiance).clamp(min=0.0)


def _two_to_one(radiance: Tensor, path: str | os.PathLike) -> Tensor:
    height, width = radiance.shape[:2]
    if width == 2 * height:
        return radiance
    new_height = max(1, round(width / 2))
    if width >= 32 and abs(width - 2 * height) <= _RATIO_TOLERANCE_PIXELS:
        logger.warning(
            "%s is %d x %d, not quite 2:1; resampled to %d x %d.",
            path,
            width,
            height,
            2 * new_height,
            new_height,
        )
        return resample_env(radiance, new_height, 2 * new_height)
    kinds = {
        (1, 1): "a light probe or mirror ball",
        (4, 3): "a cube cross",
        (3, 4): "a cube cross",
        (6, 1): "a cube strip",
        (1, 6): "a cube strip",
    }
    kind = next(
        (name for (w, h), name in kinds.items() if width * h == height * w), "a picture of another kind"
    )
    raise DelitError(
        f"{path} is {width} x {height} pixels; a lat-long environment map is exactly twice as wide as high. "
        f"This looks like {kind}. Convert it to lat-long (equirectangular) first, or crop it to 2:1 if it is "
        "one."
    )


def _note_other_primaries(image: OiioImage, path: str | os.PathLike) -> None:
    text = image.attributes.get("chromaticities")
    if text is None:
        return
    try:
        values = tuple(float(value) for value in text.strip("()").split(","))
    except ValueError:
        return  # A text under that name.
    if (
        len(values) == 8
        and max(abs(a - b) for a, b in zip(values, REC709_CHROMATICITIES, strict=True)) > 0.005
    ):
        logger.warning(
            "%s has other primaries than Rec.709 (chromaticities %s): its colours are taken as they are. "
            "Convert it to linear Rec.709 (scene-linear sRGB) for exact ones.",
            path,
            text,
        )
