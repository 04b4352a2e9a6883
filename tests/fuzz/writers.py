"""Everything that Delit writes, to places that cannot be written to, in names that do not fit, over files that are
there, and on disks that are full in the middle: a file is whole, or is not there, or is the one that was there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from hypothesis import strategies as st
from torch import Tensor

from delit_models.checkpoint import load_wan_vae, save_wan_vae
from delit_models.env_map_files import read_env_map, write_env_map
from delit_models.errors import DelitError
from delit_models.heads import DelitHeads
from delit_models.heads_file import HeadsInfo, load_heads, save_heads
from delit_models.image_files import read_image, write_image
from delit_models.plate_files import PlateHeader, Window, read_plate, write_plate
from delit_models.video.files import VideoFile, write_video
from delit_models.wan_vae import WanVAE, WanVAEConfig
from tests.unit.disk_limits import full_disk_after

from .damage import odd_values
from .harness import Case, Fault, Kind, files_below
from .tensors import DTYPES, FILLS, tensor
from .weights_files import SMALL_HEADS

PLACES = [
    *("new", "new", "new", "there", "there", "deep/er/new", "file/below", "folder", "x" * 100, "x" * 300),
    *(
        "link",
        "dangling",
        "loop",
        "a b ü 日本",
        "-x",
        "a:b",
        "a\nb",
        ".hidden",
        "folder/..",
        "/proc/new",
        "/dev/null",
    ),
]
SUFFIXES = [".png", ".png", ".exr", ".exr", ".jpg", ".tif", ".tiff", ".hdr", ".webp", ".EXR", ".xyz", ""]
LIMITS = [None, None, None, 0, 1, 100, 1000, 5000]


@dataclass(frozen=True)
class _Writer:
    """How something is written, and read again to see whether it is whole."""

    write: Callable[[Path, Tensor, bool], None]
    read: Callable[[Path], object]
    shapes: tuple[tuple[int, ...], ...]
    suffixes: tuple[str, ...] = tuple(SUFFIXES)


def _video(path: Path, values: Tensor, overwrite: bool) -> None:
    write_video(path, iter(values), Fraction(24))


def _weights(path: Path, values: Tensor, overwrite: bool) -> None:
    torch.manual_seed(0)
    save_wan_vae(path, WanVAE(WanVAEConfig(dim=8)), torch.float16, {"name": "fuzzed"})


def _heads(path: Path, values: Tensor, overwrite: bool) -> None:
    save_heads(path, DelitHeads(SMALL_HEADS), torch.ones(1, 16, 8, 8), HeadsInfo("fuzzed", "small", "none"))


_PICTURES = ((8, 12, 3), (8, 12, 3), (9, 5, 4), (8, 8, 1), (8, 8, 2), (0, 8, 3), (1, 8, 8, 3), (3,))
_MAPS = ((8, 16, 3), (8, 16, 3), (1, 2, 3), (8, 8, 3), (1, 8, 16, 3), (0, 0, 3))
WRITERS: dict[str, _Writer] = {
    "image": _Writer(lambda path, x, over: write_image(path, x, overwrite=over), read_image, _PICTURES),
    "deep image": _Writer(lambda path, x, over: write_image(path, x, 16, over), read_image, _PICTURES),
    "map": _Writer(lambda path, x, over: write_env_map(path, x, overwrite=over), read_env_map, _MAPS),
    "float map": _Writer(
        lambda path, x, over: write_env_map(path, x, bit_depth="float", orientation="unreal", overwrite=over),
        read_env_map,
        _MAPS,
    ),
    "plate": _Writer(lambda path, x, over: write_plate(path, x, overwrite=over), read_plate, _PICTURES),
    "plate of 16 bits": _Writer(
        lambda path, x, over: write_plate(path, x, pixel_type="uint16", coding="sRGB", overwrite=over),
        read_plate,
        _PICTURES,
    ),
    "video": _Writer(
        _video,
        lambda path: list(VideoFile(path, path.name).pictures()),
        ((2, 16, 18, 3), (0, 8, 8, 3)),
        (".mp4",),
    ),
    "VAE": _Writer(_weights, load_wan_vae, ((1,),), (".safetensors",)),
    "heads": _Writer(_heads, load_heads, ((1,),), (".safetensors",)),
}
_REPLACES_ALWAYS = ("video", "VAE", "heads")


@st.composite
def writer_cases(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(sorted(WRITERS)))
    writer = WRITERS[name]
    place = draw(st.sampled_from(PLACES)) + draw(st.sampled_from(writer.suffixes))
    told = (
        draw(st.sampled_from(writer.shapes)),
        draw(st.sampled_from(DTYPES if name != "video" else ["float32", "float16", "float64"])),
        draw(st.sampled_from(FILLS)),
        "plain",
        draw(st.integers(0, 9)),
    )
    over = draw(st.booleans())
    limit = draw(st.sampled_from(LIMITS))
    return Case(
        f"{name} to {place[-60:]!r}, overwrite {over}, disk of {limit} bytes: {told}",
        lambda folder: _write(name, folder, place, tensor(*told), over, limit),
    )


def _write(name: str, folder: Path, place: str, values: Tensor, over: bool, limit: int | None) -> None:
    writer = WRITERS[name]
    path = folder / place
    _furnish(folder, path.suffix)
    before = files_below(folder)
    was_there = place in before
    error = None
    try:
        with nullcontext() if limit is None else full_disk_after(limit):
            writer.write(path, values, over)
    except DelitError as refusal:
        error = refusal
    after = files_below(folder)
    parts = [found for found in after if Path(found).name.startswith(".") and found not in before]
    if [part for part in parts if part != place]:
        raise Fault(f"writing a {name} left a part of a file")
    if error is not None:
        if after != before:
            raise Fault(f"a {name} could not be written, and the folder changed")
        raise error
    if was_there and not over and name not in _REPLACES_ALWAYS:
        raise Fault(f"a {name} took the place of a file that was to stay")
    own = path.resolve()
    if any(before[found] != after.get(found) for found in before if (folder / found).resolve() != own):
        raise Fault(f"writing a {name} changed another file")
    # Not every map or picture is what its reader takes, but it is whole.
    try:
        writer.read(path)
    except DelitError as unread:
        if "damaged" in str(unread) or "cut short" in str(unread):
            raise Fault(f"a {name} was written that is damaged") from unread


def _furnish(folder: Path, suffix: str) -> None:
    """A file, a folder and links of the names that PLACES has."""
    (folder / f"there{suffix}").write_text("mine")
    (folder / "file").write_text("mine, too")
    for name in ("folder", f"folder{suffix}"):
        (folder / name).mkdir(exist_ok=True)
    if suffix:
        (folder / f"link{suffix}").symlink_to(folder / f"there{suffix}")
        (folder / f"dangling{suffix}").symlink_to(folder / "nowhere")
        (folder / f"loop{suffix}").symlink_to(folder / f"loop{suffix}")


_ATTRIBUTE_TYPES = [
    *("string", "int", "float", "float[8]", "float[3]", "int[2]", "timecode", "rational", "matrix", "box2i"),
    *("keycode", "color", "double", "nothing", "float[100000000]", ""),
]


@st.composite
def header_cases(draw: st.DrawFn) -> Case:
    """Plates with headers of any attributes: what cannot be written is refused or left out, never half a file."""
    attributes = tuple(
        (
            draw(
                st.text(max_size=12)
                | st.sampled_from(["compression", "chromaticities", "owner", "name", "type"])
            ),
            draw(st.sampled_from(_ATTRIBUTE_TYPES)),
            draw(odd_values() | st.tuples(st.floats(), st.floats()) | st.binary(max_size=8)),
        )
        for _ in range(draw(st.integers(0, 3)))
    )
    numbers = st.sampled_from([0, 0, 1, -5, 8, 100, 2**31 - 1, -(2**31), 2**40])
    window = draw(st.none() | st.builds(Window, numbers, numbers, numbers, numbers, numbers, numbers))
    suffix = draw(st.sampled_from([".exr", ".exr", ".tif", ".png"]))
    header = PlateHeader(draw(st.none() | st.integers(-5, 10**12)), window, attributes)
    extra = draw(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2))
    told = f"{str(header)[:900]}, extra {extra}"
    return Case(
        f"header to {suffix}: {told}", lambda folder: _write_header(folder / f"a{suffix}", header, extra)
    )


def _write_header(path: Path, header: PlateHeader, extra: dict[str, str]) -> None:
    pixels = torch.rand(8, 8, 3)
    kind = "half" if path.suffix == ".exr" else "uint16"
    coding = "linear Rec.709" if path.suffix == ".exr" else "sRGB"
    try:
        write_plate(path, pixels, pixel_type=kind, coding=coding, header=header, extra=extra)
    except DelitError:
        if any(path.parent.iterdir()):
            raise Fault("a plate's header was refused, and something was written") from None
        raise
    if read_plate(path).pixels.shape != pixels.shape:
        raise Fault("a plate came back of another size")


KIND = Kind("writers", st.one_of(writer_cases(), writer_cases(), header_cases()), 600, 60)
