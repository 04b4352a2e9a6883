"""Small files whose headers promise a great deal: 100,000 × 100,000 pixels, gigabytes of texts, tensors or frames.

They are refused before memory is taken or minutes pass (harness.MOST_MEMORY, MOST_SECONDS).
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from delit_models.checkpoint import load_wan_vae
from delit_models.env_map_files import read_env_map
from delit_models.errors import DelitError
from delit_models.heads_file import load_heads
from delit_models.image_files import read_image
from delit_models.plate_files import read_plate
from training.data.check import check_folder
from training.data.pairs import PairDataset
from training.data.shards import ShardDataset

from .harness import Case, Fault, Kind
from .picture_files import oiio_file
from .weights_files import pickled, sound_file

SIDE = 100_000
_EMPTY_ENTRY = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'


def png(width: int = SIDE, height: int = SIDE, depth: int = 8, more: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(5000))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + more
        + png_chunk(b"IDAT", pixels)
        + png_chunk(b"IEND", b"")
    )


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@lru_cache
def _zeros(megabytes: int) -> bytes:
    """Zeros, compressed a thousandfold."""
    packer = zlib.compressobj(9)
    return b"".join([packer.compress(bytes(2**20)) for _ in range(megabytes)] + [packer.flush()])


def _small(format_name: str) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(encoded, format_name)
    return encoded.getvalue()


def jpeg() -> bytes:
    content = _small("JPEG")
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", 65500, 65500) + content[place + 4 :]


def bmp() -> bytes:
    content = _small("BMP")
    return content[:18] + struct.pack("<ii", SIDE, SIDE) + content[26:]


def tiff(tag: int = 256, value: int = SIDE, count: int = 1) -> bytes:
    """A TIFF with one entry of its directory changed: 256 and 257 are width and height."""
    content = bytearray(oiio_file(".tif", "uint16", ("R", "G", "B"), (64, 32), ""))
    first = struct.unpack("<I", content[4:8])[0]
    for entry in range(struct.unpack("<H", content[first : first + 2])[0]):
        place = first + 2 + 12 * entry
        if struct.unpack("<H", content[place : place + 2])[0] == tag:
            content[place + 2 : place + 12] = struct.pack("<HII", 4, count, value)
    return bytes(content)


def exr(attribute: bytes = b"", window: tuple[int, int] | None = (SIDE, SIDE)) -> bytes:
    """An EXR with another window, and with more at the start of its header."""
    content = oiio_file(".exr", "half", ("R", "G", "B"), (64, 32), "zip")
    if window is not None:
        for name in (b"dataWindow\0box2i\0", b"displayWindow\0box2i\0"):
            place = content.index(name) + len(name) + 4
            corners = struct.pack("<iiii", 0, 0, window[0] - 1, window[1] - 1)
            content = content[:place] + corners + content[place + 16 :]
    return content[:8] + attribute + content[8:]


def exr_channels(count: int) -> bytes:
    content = oiio_file(".exr", "half", ("R", "G", "B"), (64, 32), "zip")
    start = content.index(b"channels\0chlist\0") + len(b"channels\0chlist\0")
    size = struct.unpack("<I", content[start : start + 4])[0]
    listed = b"".join(
        f"c{number:06}".encode() + b"\0" + struct.pack("<iBBBBii", 2, 0, 0, 0, 0, 1, 1)
        for number in range(count)
    )
    return content[:start] + struct.pack("<I", len(listed) + 1) + listed + b"\0" + content[start + 4 + size :]


def exr_attributes(count: int) -> bytes:
    return b"".join(b"a%07d\0int\0" % number + struct.pack("<Ii", 4, number) for number in range(count))


def radiance(lines: str = f"-Y {SIDE} +X {SIDE}", comment: str = "") -> bytes:
    return f"#?RADIANCE\n{comment}FORMAT=32-bit_rle_rgbe\n\n{lines}\n".encode() + b"\2\2\1\0" * 100


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


@lru_cache
def zip_bomb(megabytes: int = 1500) -> bytes:
    """A .pth whose pickle grows to so much."""
    plain = pickled("numbers as names")
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(plain)) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
    ):
        for name in source.namelist():
            with target.open(name, "w", force_zip64=True) as file:
                if name.endswith("data.pkl"):
                    for _ in range(megabytes):
                        file.write(b"N" * 2**20)
                else:
                    file.write(source.read(name))
    return packed.getvalue()


def _read(path: Path, reader: Callable[[Path], object]) -> None:
    reader(path)
    raise Fault(f"{path.name} was read, whatever it promises")


def _picture(path: Path) -> None:
    """By all readers of pictures: each refuses it, or reads the small picture that there is and nothing else."""
    readers: dict[str, Callable[[Path], Tensor]] = {
        "read_image": read_image,
        "read_env_map": lambda path: read_env_map(path).radiance,
        "read_plate": lambda path: read_plate(path).pixels,
    }
    refusal = None
    for name, reader in readers.items():
        try:
            if reader(path).numel() > 64 * 64 * 3:
                raise Fault(f"{path.name} was read by {name}, whatever it promises")
        except DelitError as error:
            refusal = error
    if refusal is not None:
        raise refusal


def _sparse(path: Path, start: bytes, size: int = 6 * 2**30) -> None:
    """A file of 6 GB that takes no room on the disk."""
    path.write_bytes(start)
    with path.open("r+b") as file:
        file.truncate(size)


def _index(folder: Path) -> None:
    _sparse(folder / "index.jsonl", b"{}\n")
    try:
        PairDataset(folder, "train")
    except DelitError:
        check_folder(folder)


def _description(folder: Path) -> None:
    (folder / "train-000000.tar").write_bytes(bytes(1024))
    _sparse(folder / "dataset.json", b'{"shards": {}}')
    ShardDataset(folder, "train")


def _member(folder: Path) -> None:
    """A shard whose member says that it has 4 GB, in a file that has them."""
    header = bytearray(512)
    header[:9], header[124:136], header[156:157] = b"a.png\0\0\0\0", b"%011o\0" % (4 * 2**30), b"0"
    header[257:265], header[148:156] = b"ustar\00000", b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    names = (b"a.relit.png", b"a.flat.png", b"a.mask.png", b"a.env.exr", b"a.json")
    parts = []
    for name in names:
        own = bytearray(header)
        own[:20], own[148:156] = name.ljust(20, b"\0"), b" " * 8
        own[124:136] = b"%011o\0" % (3 * 2**30 if name == b"a.json" else 0)
        own[148:156] = b"%06o\0 " % sum(own)
        parts.append(bytes(own))
    _sparse(folder / "train-000000.tar", b"".join(parts))
    ShardDataset(folder, "train")


@lru_cache
def promises() -> dict[str, Callable[[Path], None]]:
    """What each promises, and how it is tried in a folder."""
    huge = 2**31 - 16
    pictures: dict[str, Callable[[], bytes]] = {
        "a.png": png,
        "deep.png": lambda: png(depth=16),
        "wide.png": lambda: png(2**31 - 1, 1),
        "text.png": lambda: png(64, 64, 8, png_chunk(b"zTXt", b"a\0\0" + _zeros(600))),
        "profile.png": lambda: png(64, 64, 8, png_chunk(b"iCCP", b"a\0\0" + _zeros(600))),
        "deep_text.png": lambda: png(64, 64, 16, png_chunk(b"zTXt", b"a\0\0" + _zeros(600))),
        "a.jpg": jpeg,
        "a.bmp": bmp,
        "wide.tif": lambda: tiff(256, 2**31 - 1),
        "high.tif": lambda: tiff(257, 2**31 - 1),
        "rows.tif": lambda: tiff(278, huge),
        "strip.tif": lambda: tiff(279, huge),
        "strips.tif": lambda: tiff(273, 8, huge),
        "samples.tif": lambda: tiff(277, 65535),
        "a.exr": exr,
        "whole.exr": lambda: exr(window=(2**31 - 1, 2**31 - 1)),
        "text.exr": lambda: exr(b"comment\0string\0" + struct.pack("<I", huge), None),
        "preview.exr": lambda: exr(b"preview\0preview\0" + struct.pack("<III", 8, 60000, 60000), None),
        "channels.exr": lambda: exr_channels(200_000),
        "attributes.exr": lambda: exr(exr_attributes(200_000), None),
        "a.hdr": radiance,
        "comment.hdr": lambda: radiance(comment="#" + "x" * 20_000_000 + "\n"),
        "minus.hdr": lambda: radiance("-Y -5 +X -5"),
    }
    tensors: dict[str, Callable[[], bytes]] = {
        "long.safetensors": lambda: safetensors(b"{}", 2**40),
        "nested.safetensors": lambda: safetensors(b'{"a":' + b"[" * 20_000_000),
        "many.safetensors": lambda: safetensors(
            b"{" + b",".join(b'"%d":%s' % (number, _EMPTY_ENTRY) for number in range(400_000)) + b"}"
        ),
        "shape.safetensors": lambda: safetensors(
            json.dumps({"a": {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 4]}}).encode()
        ) + bytes(4),
        "described.safetensors": lambda: _wide_heads(),
        "bomb.pth": zip_bomb,
    }  # fmt: skip
    found: dict[str, Callable[[Path], None]] = {}
    for name, build in pictures.items():
        found[name] = lambda folder, name=name, build=build: _picture(_written(folder / name, build()))
    for name, build in tensors.items():
        for loader in (load_wan_vae, load_heads):
            found[f"{name} by {loader.__name__}"] = lambda folder, name=name, build=build, loader=loader: (
                _read(_written(folder / name, build()), loader)
            )
    return found | {
        "an index of 6 GB": _index,
        "a description of 6 GB": _description,
        "a member of 3 GB": _member,
    }


def _wide_heads() -> bytes:
    """Heads that say they are 4096 channels wide everywhere: 20 GB of weights, in a file of 200 kB."""
    from .weights_files import METADATA_KEY, header_of, with_header

    content = sound_file("heads")
    header = header_of(content)
    description = json.loads(header["__metadata__"][METADATA_KEY])
    widths = {
        "feature_channels": 4096,
        "extractor_widths": [4096] * 8,
        "flat_width": 4096,
        "env_token_width": 4096,
    }
    description["config"] |= {**widths, "env_query_blocks": 64}
    header["__metadata__"][METADATA_KEY] = json.dumps(description)
    return with_header(content, header)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


CASES = st.sampled_from(sorted(promises())).map(lambda name: Case(name, promises()[name]))
KIND = Kind("promises", CASES, len(promises()), 12)
