"""Ordinary pictures: PNG, JPEG, WebP and TIFF of 8 or 16 bits a channel, sRGB-coded values in [0, 1].

HDR environment maps are in `env_map_files`; `read_env_map` and `write_env_map` can be had from here too.
"""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from .atomic_write import atomic_write
from .env_map_files import EnvMap, read_env_map, write_env_map
from .errors import DelitError
from .oiio_files import HDR_FORMATS, check_promise, existing_file, pixel_type_of, read_pixels, write_pixels

__all__ = ["EnvMap", "read_env_map", "read_image", "write_env_map", "write_image"]

logger = logging.getLogger(__name__)

# Pillow's format and the options that lose least.
_FORMATS = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
}
_SIXTEEN_BIT_SUFFIXES = (".png", ".tif", ".tiff")
_CHANNEL_NAMES = {1: ("Y",), 3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}


def read_image(path: str | os.PathLike) -> Tensor:
    """Read a picture -> [H, W, C] float32 in [0, 1], sRGB-coded; C is 1 (grey), 3, or 4 (alpha last, not
    multiplied in).

    It is turned upright as its EXIF orientation says, and brought to sRGB where an 8-bit colour picture
    carries another ICC profile (Display P3, Adobe RGB, CMYK). Of an animation the first frame is read.
    Raises DelitError for a file that is missing, damaged, cut short, too large, no picture, or HDR.
    """
    file = existing_file(path)
    format_name, pixel_type = pixel_type_of(file)
    if format_name in HDR_FORMATS or pixel_type in ("half", "float", "double"):
        raise DelitError(
            f"{file} holds linear HDR values, not an sRGB picture. Load it as an environment map, or export "
            "the picture as PNG, JPEG, WebP or TIFF of 8 or 16 bits."
        )
    # Pillow reads 16-bit colour as 8-bit; OpenImageIO keeps it.
    return _read_deep(file) if pixel_type in ("uint16", "uint32") else _read_eight_bit(file)


def write_image(path: str | os.PathLike, image: Tensor, bit_depth: int = 8, overwrite: bool = True) -> None:
    """Write [H, W, 1 | 3 | 4], sRGB-coded in [0, 1] (values outside are clamped), whole or not at all.

    The suffix chooses the format: .png, .jpg, .webp (lossless) or .tif; `bit_depth` 16 is for .png and
    .tif.
    Raises DelitError for NaN or Inf, another shape, suffix or depth, alpha in a JPEG, a file that is there
    while not `overwrite`, and a folder or disk that takes no file.
    """
    suffix = _checked_suffix(path, image, bit_depth)
    values = image.detach().cpu().float().clamp(0.0, 1.0).numpy()
    codes = np.rint(values * (2**bit_depth - 1)).astype(np.uint16 if bit_depth == 16 else np.uint8)
    with atomic_write(path, overwrite) as temporary:
        if bit_depth == 16:
            attributes = {"oiio:UnassociatedAlpha": 1, "compression": "zip", "Software": "Delit"}
            write_pixels(temporary, codes, _CHANNEL_NAMES[codes.shape[2]], attributes, lossless=True)
        else:
            format_name, options = _FORMATS[suffix]
            encoded = io.BytesIO()
            Image.fromarray(codes[..., 0] if codes.shape[2] == 1 else codes).save(
                encoded, format_name, **options
            )
            temporary.write_bytes(encoded.getvalue())


def _read_eight_bit(file: Path) -> Tensor:
    try:
        with Image.open(file) as opened:
            check_promise(file, *opened.size, len(opened.getbands()))
            if getattr(opened, "n_frames", 1) > 1 and opened.format not in ("MPO", "TIFF"):
                logger.info("%s has %d frames: the first was read.", file, opened.n_frames)
            picture = _to_plain_mode(_to_srgb(ImageOps.exif_transpose(opened), file))
    except DelitError:
        raise
    except Exception as error:
        # Pillow's decoders fail on damaged bytes in any way they like.
        raise DelitError(
            f"{file} cannot be read as a picture: {error}. It is damaged, cut short, too large or of a kind "
            "that is not supported: export it again as PNG, JPEG, WebP or TIFF."
        ) from error
    pixels = np.asarray(picture, dtype=np.uint8)
    pixels = pixels.reshape(pixels.shape[0], pixels.shape[1], -1)
    return torch.from_numpy(pixels.astype(np.float32) / 255.0)


def _to_srgb(picture: Image.Image, file: Path) -> Image.Image:
    """Convert a colour picture that carries another ICC profile than sRGB."""
    profile_bytes = picture.info.get("icc_profile")
    if not profile_bytes or picture.mode not in ("RGB", "RGBA", "CMYK"):
        return picture
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        name = ImageCms.getProfileDescription(profile).strip()
        if "srgb" in name.lower():
            return picture
        colors = picture.convert("RGB") if alpha is not None else picture
        converted = ImageCms.profileToProfile(
            colors, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError) as error:
        logger.warning("%s: its colour profile cannot be used (%s); read as sRGB.", file, error)
        return picture
    logger.info("%s: converted from the colour profile %r to sRGB.", file, name)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _to_plain_mode(picture: Image.Image) -> Image.Image:
    """Grey (L), RGB or RGBA, whatever the file's own mode is."""
    if picture.mode in ("1", "L"):
        return picture.convert("L") if "transparency" not in picture.info else picture.convert("RGBA")
    has_alpha = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
    return picture.convert("RGBA" if has_alpha else "RGB")


def _read_deep(file: Path) -> Tensor:
    image = read_pixels(file)
    pixels = torch.from_numpy(image.pixels)
    if pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    if pixels.shape[2] not in _CHANNEL_NAMES:
        raise DelitError(
            f"{file} has {pixels.shape[2]} channels ({', '.join(image.channels)}); a picture has 1, 3 or 4. "
            "Export it without the extra ones."
        )
    profile = image.attributes.get("ICCProfile:profile_description", "")
    if profile and "srgb" not in profile.lower():
        logger.warning(
            "%s: the colour profile %r of a 16-bit picture is not applied; read as sRGB.", file, profile
        )
    return pixels


def _checked_suffix(path: str | os.PathLike, image: Tensor, bit_depth: int) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise DelitError(f"Cannot tell the format of {path}: end the name in {', '.join(_FORMATS)}.")
    if bit_depth not in (8, 16):
        raise DelitError(f"A picture has 8 or 16 bits a channel, not {bit_depth}.")
    if bit_depth == 16 and suffix not in _SIXTEEN_BIT_SUFFIXES:
        raise DelitError(
            f"{path}: {suffix} has no 16-bit form. Use {', '.join(_SIXTEEN_BIT_SUFFIXES)} or 8 bits."
        )
    if image.ndim != 3 or image.shape[2] not in _CHANNEL_NAMES or 0 in image.shape:
        raise DelitError(
            f"Expected one picture [H, W, 1, 3 or 4], got {list(image.shape)}. Write a batch one by one."
        )
    if image.shape[2] == 4 and suffix in (".jpg", ".jpeg"):
        raise DelitError(
            f"{path}: a JPEG holds no transparency. Write .png or .webp, or drop the alpha channel."
        )
    count = int((~torch.isfinite(image)).sum())
    if count:
        row, column, channel = (~torch.isfinite(image)).nonzero()[0].tolist()
        raise DelitError(
            f"{count} of {image.numel()} values of the picture are NaN or infinite, the first at row {row}, "
            f"column {column}, channel {channel}. Repair them before writing {path}."
        )
    return suffix
