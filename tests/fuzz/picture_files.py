"""Pictures, plates and environment maps on disk: sound ones of every format and mode, damaged in every way."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import torch
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from torch import Tensor

from delit_models.env_map_files import read_env_map
from delit_models.image_files import read_image
from delit_models.plate_files import read_plate, write_plate
from training.data.pairs import read_light, read_linear, read_picture
from training.data.truth_check import TRUTH_FILES, check_truth

from .damage import damaged
from .harness import Case, Fault, Kind

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".exr", ".hdr", ".gif", ".EXR", "")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")


def _pattern(height: int, width: int, channels: int) -> np.ndarray:
    values = np.random.default_rng(height * width + channels).random((height, width, channels), np.float32)
    values[: height // 2] = 0.5
    return values


@lru_cache
def pillow_file(mode: str, format_name: str, size: tuple[int, int], extra: str) -> bytes | None:
    """A file as Pillow writes it; None where the format has no such mode."""
    rgb = Image.fromarray((_pattern(size[1], size[0], 3) * 255).astype(np.uint8))
    encoded, options = io.BytesIO(), {}
    if extra == "profile":
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    elif extra == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    elif extra == "texts" and format_name == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("prompt", "x" * 3000, zip=True)
        options["pnginfo"].add_itxt("workflow", "{}" * 50)
    elif extra == "frames" and format_name in ("GIF", "WEBP", "PNG", "TIFF"):
        options |= {"save_all": True, "append_images": [rgb.rotate(90)]}
    try:
        source = Image.fromarray(np.asarray(rgb.convert("L"), np.uint16) * 257) if mode == "I;16" else None
        (source or rgb.convert(mode)).save(encoded, format_name, **options)
    except (OSError, ValueError, KeyError):
        return None
    return encoded.getvalue()


@lru_cache
def oiio_file(
    suffix: str, pixel_type: str, names: tuple[str, ...], size: tuple[int, int], extra: str
) -> bytes | None:
    """A file as OpenImageIO writes it; None where the format holds no such pixels."""
    spec = oiio.ImageSpec(size[0], size[1], len(names), pixel_type)
    spec.channelnames = names
    if extra == "window":
        spec.x, spec.y, spec.full_width, spec.full_height = 3, -2, size[0] + 9, size[1] + 7
    elif extra == "tiles":
        spec.tile_width = spec.tile_height = 16
    elif extra == "attributes":
        spec.attribute("chromaticities", "float[8]", (0.7, 0.3, 0.2, 0.8, 0.1, 0.0, 0.3, 0.3))
        spec.attribute("delit:orientation", "sideways")
        spec.attribute("Orientation", 5)
        spec.attribute("smpte:TimeCode", "01:02:03:04")
        spec.attribute("comment", "x" * 2000)
    elif extra:
        spec.attribute("compression", extra)
    file = Path("/tmp", f"delit-fuzz-{suffix[1:]}-{pixel_type}-{len(names)}-{size[0]}-{extra}{suffix}")
    try:
        writer = oiio.ImageOutput.create(str(file))
        if not writer.open(str(file), spec) or not writer.write_image(_pattern(size[1], size[0], len(names))):
            return None
        writer.close()
        del writer
        return file.read_bytes()
    finally:
        oiio.geterror()
        file.unlink(missing_ok=True)


_SIZES = st.sampled_from([(64, 32), (48, 24), (65, 32), (17, 5), (1, 1), (72, 72), (130, 64)])


def sound_files() -> st.SearchStrategy[tuple[str, bytes]]:
    """What a sound file is called, and its bytes."""
    pillow = st.tuples(
        st.sampled_from(_MODES),
        st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"]),
        _SIZES,
        st.sampled_from(["", "profile", "turned", "texts", "frames"]),
    ).map(lambda told: (f"Pillow {told}", pillow_file(*told)))
    channels = [
        ("R", "G", "B"),
        ("Y",),
        ("R", "G", "B", "A"),
        ("Y", "A"),
        ("a.R", "a.G", "a.B", "Z"),
        ("X", "Y", "Z"),
    ]
    others = st.tuples(
        st.sampled_from([".exr", ".exr", ".exr", ".hdr", ".tif", ".png"]),
        st.sampled_from(["half", "float", "uint16", "uint32", "uint8", "double"]),
        st.sampled_from(channels),
        _SIZES,
        st.sampled_from(
            ["", "window", "tiles", "attributes", "zip", "rle", "piz", "pxr24", "b44", "dwaa", "none"]
        ),
    ).map(lambda told: (f"OpenImageIO {told}", oiio_file(*told)))
    return (pillow | others).filter(lambda found: found[1] is not None)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    told, content = draw(sound_files())
    done, content = draw(damaged(content))
    suffix = draw(st.sampled_from(SUFFIXES))
    reader = draw(st.sampled_from(sorted(READERS)))
    return Case(
        f"{reader} of {told} as {suffix}, {done}",
        lambda folder: read_and_judge(reader, content, folder / f"x{suffix}"),
    )


def read_and_judge(reader: str, content: bytes, path: Path) -> None:
    path.write_bytes(content)
    READERS[reader](path)
    if path.read_bytes() != content:
        raise Fault(f"{reader} changed the file that it read")


def _image(path: Path) -> None:
    picture = read_image(path)
    if picture.ndim != 3 or picture.shape[-1] not in (1, 3, 4):
        raise Fault(f"read_image gave a shape of {len(picture.shape)} dimensions")
    sound(picture, "read_image", 0, 1)


def _env(path: Path) -> None:
    radiance = read_env_map(path).radiance
    if radiance.shape[1] != 2 * radiance.shape[0] or radiance.shape[2] != 3:
        raise Fault("read_env_map gave no lat-long")
    sound(radiance, "read_env_map", 0)


def _plate(path: Path) -> None:
    plate = read_plate(path)
    sound(plate.pixels, "read_plate")
    if plate.alpha is not None:
        sound(plate.alpha, "read_plate's alpha")
    # What was read can be written again with its header, or is refused.
    copy = path.with_name("copy.exr")
    write_plate(copy, plate.pixels, alpha=plate.alpha, header=plate.header)
    if read_plate(copy).pixels.shape != plate.pixels.shape:
        raise Fault("a plate came back of another size")


def _truth(path: Path) -> None:
    for kind in TRUTH_FILES:
        check = check_truth(kind, path)
        if check.size is None and not check.problems:
            raise Fault("check_truth found neither a size nor a problem")


def sound(values: Tensor, what: str, least: float | None = None, most: float | None = None) -> None:
    """Raise Fault unless all values are finite and between the bounds."""
    if not torch.isfinite(values).all():
        raise Fault(f"{what} gave values that are not finite")
    if least is not None and values.numel() and values.min() < least:
        raise Fault(f"{what} gave values under {least}")
    if most is not None and values.numel() and values.max() > most:
        raise Fault(f"{what} gave values over {most}")


READERS: dict[str, Callable[[Path], None]] = {
    "image": _image,
    "env map": _env,
    "plate": _plate,
    "truth": _truth,
    "picture of a pair": lambda path: sound(read_picture(path), "read_picture"),
    "light of a pair": lambda path: sound(read_light(path), "read_light", 0),
    "linear picture of a pair": lambda path: sound(read_linear(path), "read_linear"),
}
KIND = Kind("picture files", cases(), 1500, 80)
