"""Pictures of one light at a time on disk: captures of a real light stage, and transport that a run has kept.

One folder a subject, anywhere below the folder that is given, with a `lights.json` and the pictures that it names:

    captures/anna/lights.json
    captures/anna/000.exr 001.exr …       one light each, camera and subject still, all else dark
    captures/anna/mask.png                optional

    {
      "format_version": 1,
      "lights": [
        {"file": "000.exr", "direction": [0.0, 0.5, 0.87], "white": [1.0, 1.0, 1.0]},
        …
      ],
      "encoding": "linear",
      "mask": "mask.png",
      "flat": "flat.png",
      "field_of_view": 30.0
    }

direction: from the subject to the light, in camera axes (+X to the picture's right, +Y up, +Z towards the camera), of
    any length. 6 lights or more; environments get as fine as the lights are dense.
white: what a white matte card that faces the light shows in the picture, linear, one value or R, G, B; it holds the
    exposure of the pictures and the lamps' colour. 1 where it is left out.
encoding: "linear" (where it is left out) for EXR, TIFF or 16-bit PNG of linear Rec.709 light; "srgb" for ordinary
    pictures.
mask: coverage of the subject, white inside. Left out, it is what the lights reach: the largest bright region.
flat: the picture under uniform light of radiance 1, sRGB. Left out, it is the sum of the lights.
field_of_view: full vertical angle of the (square) picture in degrees, for the background; 30 where it is left out.

Pictures are cut to their middle square and brought to the size of the data set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from scipy import ndimage

from delit_models.atomic_write import atomic_write
from delit_models.color import srgb_to_linear
from delit_models.errors import DelitError
from delit_models.image_files import read_image
from delit_models.json_text import read_json
from delit_models.oiio_files import read_pixels
from training.synth.light.light_stage import LightStage, Transport, masked_transport, stage_around
from training.synth.render.exr_files import write_exr

CAPTURE_FILE = "lights.json"
FORMAT_VERSION = 1
_FIELD_OF_VIEW = 30.0
# A dark stage's black is not quite black; a subject under all lights is far above this share of its brightest part.
_MASK_THRESHOLD = 0.02


@dataclass(frozen=True)
class Capture:
    """A subject captured one light at a time.

    Attributes:
        name: of its folder.
        transport: its pictures under the lights, in image-referred units (light of radiance 1).
        flat: [S, S, 4], linear, under uniform radiance 1, and coverage.
        field_of_view: degrees.
    """

    name: str
    transport: Transport
    flat: np.ndarray
    field_of_view: float


def find_captures(folder: Path) -> list[Path]:
    """All lights.json below a folder, in name order. Raises DelitError where there are none."""
    found = sorted(folder.rglob(CAPTURE_FILE))
    if not found:
        raise DelitError(
            f"{folder} holds no captures: each subject is a folder with its pictures, one a light, and a "
            f"{CAPTURE_FILE} that names them and the lights' directions. synth/dataset/captures.py describes it."
        )
    return found


def read_capture(path: Path, image_size: int, stage: LightStage | None = None) -> Capture:
    """A captured subject, brought to image_size x image_size.

    path: its lights.json. stage: the stage it was kept from, if it is known; else one around the lights' directions.
    Raises DelitError for a file of another kind or version, lights whose direction or white cannot be, and for pictures
    that are missing or differ in size.
    """
    description = _read_description(path)
    lights = description["lights"]
    stage = stage or _stage_of(lights, path)
    if stage.count != len(lights):
        raise DelitError(
            f"{path} has {len(lights)} lights, not {stage.count}; remove its folder and run again."
        )
    linear = description.get("encoding", "linear") == "linear"
    scale = stage.irradiance / np.pi
    pictures = []
    for light, factor in zip(lights, scale, strict=True):
        picture = _square(_read_picture(path.parent / light["file"], linear), image_size)
        pictures.append((picture * (factor / _white(light, path))).astype(np.float16))
    unmasked = Transport(stage, np.stack(pictures), np.ones((image_size, image_size), np.float32))
    coverage = _coverage(path, description, unmasked, image_size)
    transport = masked_transport(stage, unmasked.pictures, coverage)
    flat = _flat(path, description, transport, image_size)
    name = path.parent.parent.name if path.parent.name == "olat" else path.parent.name
    return Capture(name, transport, flat, float(description.get("field_of_view", _FIELD_OF_VIEW)))


def write_capture(folder: Path, transport: Transport, field_of_view: float, mask: str) -> None:
    """Keeps a rendered subject's transport as a folder that read_capture reads: a half-float EXR a light, and, last,
    lights.json. mask: where its mask is, relative to the folder."""
    lights = []
    for number, picture in enumerate(transport.pictures):
        file = f"{number:03d}.exr"
        write_exr(folder / file, picture, ("R", "G", "B"))
        direction = [float(value) for value in transport.stage.directions[number]]
        white = float(transport.stage.irradiance[number] / np.pi)
        lights.append({"file": file, "direction": direction, "white": white})
    description = {
        "format_version": FORMAT_VERSION,
        "encoding": "linear",
        "mask": mask,
        "field_of_view": field_of_view,
        "lights": lights,
    }
    with atomic_write(folder / CAPTURE_FILE) as temporary:
        temporary.write_text(json.dumps(description, indent=1) + "\n")


def _read_description(path: Path) -> dict:
    try:
        description = read_json(path)
        lights = description["lights"]
        complete = all({"file", "direction"} <= set(light) for light in lights)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DelitError(
            f"{path} cannot be read as a list of lights ({error!r}). Mend or remove it."
        ) from error
    if description.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        raise DelitError(
            f"{path} is of format version {description['format_version']}; this Delit reads {FORMAT_VERSION}. "
            "Update Delit."
        )
    if not complete:
        raise DelitError(f"A light in {path} lacks its file or its direction [x, y, z]. Give both to each.")
    if description.get("encoding", "linear") not in ("linear", "srgb"):
        raise DelitError(
            f'{path}: the encoding is "linear" or "srgb", not {description["encoding"]!r}. Change it.'
        )
    return description


def _stage_of(lights: list[dict], path: Path) -> LightStage:
    try:
        return stage_around([light["direction"] for light in lights])
    except DelitError as error:
        raise DelitError(f"{path}: {error}") from error


def _white(light: dict, path: Path) -> np.ndarray:
    """The white of a light as R, G, B, [3]."""
    try:
        white = np.broadcast_to(np.asarray(light.get("white", 1.0), np.float64), (3,))
    except (TypeError, ValueError):
        white = None
    if white is None or not np.isfinite(white).all() or white.min() <= 0:
        raise DelitError(
            f"{path}: the white of {light['file']} is {light['white']}; give the linear pixel value, above 0, of a "
            "white matte card that faces the light: one number, or R, G, B."
        )
    return white


def _read_picture(path: Path, linear: bool) -> np.ndarray:
    """[H, W, 3] linear light, not negative."""
    if linear:
        image = read_pixels(path)
        if image.pixel_type == "uint8":
            raise DelitError(
                f"{path} has 8 bits a channel, too few for linear light. Export EXR or 16-bit PNG, or say "
                '"encoding": "srgb" in the lights.json if it is an ordinary picture.'
            )
        pixels = image.pixels
    else:
        pixels = srgb_to_linear(read_image(path)).numpy()
    pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    if not np.isfinite(pixels).all():
        raise DelitError(
            f"{path} holds values that are no numbers or infinite. Repair them and export it again."
        )
    return np.maximum(pixels, 0.0)


def _square(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle square of [H, W, C], resampled to [size, size, C]."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    picture = picture[top : top + side, left : left + side]
    if side == size:
        return picture
    batch = rearrange(torch.from_numpy(np.ascontiguousarray(picture)), "h w c -> 1 c h w")
    small = F.interpolate(batch, (size, size), mode="bilinear", antialias=True)
    return rearrange(small, "1 c h w -> h w c").numpy()


def _coverage(path: Path, description: dict, transport: Transport, size: int) -> np.ndarray:
    """[S, S] in 0..1, from the mask file or from what the lights reach."""
    if "mask" in description:
        mask = read_image(path.parent / description["mask"])
        # Of a picture with transparency, that is the mask.
        channel = mask[..., -1:] if mask.shape[-1] in (2, 4) else mask[..., :1]
        return _square(channel.numpy(), size)[..., 0]
    return _lit_region(transport.flat()[..., :3].mean(-1))


def _lit_region(brightness: np.ndarray) -> np.ndarray:
    """The largest region of [S, S] that is brighter than a dark stage, without holes; 1 inside."""
    regions, count = ndimage.label(brightness > _MASK_THRESHOLD * np.quantile(brightness, 0.99))
    if count == 0:
        return np.zeros_like(brightness)
    largest = np.bincount(regions.ravel())[1:].argmax() + 1
    return ndimage.binary_fill_holes(regions == largest).astype(np.float32)


def _flat(path: Path, description: dict, transport: Transport, size: int) -> np.ndarray:
    if "flat" not in description:
        return transport.flat()
    flat = srgb_to_linear(read_image(path.parent / description["flat"])[..., :3]).numpy()
    coverage = transport.coverage[..., None]
    return np.concatenate([_square(flat, size) * (coverage > 0), coverage], axis=-1).astype(np.float32)
