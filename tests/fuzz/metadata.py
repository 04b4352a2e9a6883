"""Pictures and plates that are sound but for what their headers say: odd texts, numbers and profiles in EXR, PNG, JPEG
and TIFF. They are read as if that were not there, or refused; the pixels are those that are in the file.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from PIL import Image, ImageCms

from .harness import Case, Kind
from .picture_files import READERS, read_and_judge
from .promises import exr, png_chunk, tiff

_EXR_NAMES = [
    *("chromaticities", "envmap", "delit:orientation", "delit:weights", "Orientation", "pixelAspectRatio"),
    *(
        "screenWindowCenter",
        "screenWindowWidth",
        "timeCode",
        "keyCode",
        "owner",
        "comments",
        "capDate",
        "name",
        "type",
    ),
    *("view", "multiView", "chunkCount", "tiles", "wrapmodes", "worldToCamera", "framesPerSecond", "preview"),
    *(
        "oiio:ColorSpace",
        "oiio:subimages",
        "compression",
        "lineOrder",
        "displayWindow",
        "adoptedNeutral",
        "version",
    ),
    *(
        "dwaCompressionLevel",
        "deepImageState",
        "renderingTransform",
        "ICCProfile",
        "Exif:Flash",
        "a.b",
        "\xff",
    ),
]
_EXR_TYPES = [
    *(
        "string",
        "string",
        "string",
        "int",
        "float",
        "double",
        "v2f",
        "v3i",
        "v2d",
        "m33f",
        "m44f",
        "box2i",
        "box2f",
    ),
    *(
        "chromaticities",
        "envmap",
        "timecode",
        "keycode",
        "rational",
        "stringvector",
        "floatvector",
        "preview",
    ),
    *("tiledesc", "compression", "lineOrder", "chlist", "deepImageState", "opaque", ""),
]
_SIZES = {
    **{
        "int": 4,
        "float": 4,
        "double": 8,
        "v2f": 8,
        "v3i": 12,
        "v2d": 16,
        "m33f": 36,
        "m44f": 64,
        "box2i": 16,
    },
    **{
        "box2f": 16,
        "chromaticities": 32,
        "envmap": 1,
        "timecode": 8,
        "keycode": 28,
        "rational": 8,
        "tiledesc": 9,
    },
    **{"compression": 1, "lineOrder": 1, "deepImageState": 1},
}
_BYTES = st.one_of(
    st.binary(max_size=64),
    st.sampled_from(
        [b"", b"\xff\xfe", b"\0" * 8, b"\xff" * 32, b"nan", b"0.64,0.33", b"sideways", b"1,2,3,4,5,6,7,8"]
    ),
    st.lists(
        st.sampled_from([0.0, 1.0, -1.0, 0.64, 1e38, float("nan"), float("inf"), 1e-40]),
        min_size=1,
        max_size=8,
    ).map(lambda values: struct.pack(f"<{len(values)}f", *values)),
    st.text(max_size=20).map(lambda text: text.encode(errors="surrogatepass")),
)


@st.composite
def exr_cases(draw: st.DrawFn) -> tuple[str, bytes, str]:
    content, told = b"", []
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(_EXR_NAMES) | st.text(min_size=1, max_size=10))
        kind = draw(st.sampled_from(_EXR_TYPES))
        value = draw(_BYTES)
        # Mostly of the length that its type has: others are what the damaged files are.
        if kind in _SIZES and draw(st.integers(0, 9)):
            value = (value * 64 or bytes(64))[: _SIZES[kind]]
        encoded = name.encode("utf-8", "surrogatepass").replace(b"\0", b"")
        content += encoded + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value
        told.append(f"{name!r} {kind} {value!r}")
    return f"EXR with {'; '.join(told)}", exr(content, None), ".exr"


_CHUNKS = [
    *(
        "tEXt",
        "zTXt",
        "iTXt",
        "iCCP",
        "gAMA",
        "cHRM",
        "eXIf",
        "pHYs",
        "tRNS",
        "bKGD",
        "sRGB",
        "cICP",
        "tIME",
        "acTL",
    ),
    *("fcTL", "sBIT", "hIST", "sPLT", "oFFs", "vpAg"),
]


@st.composite
def png_cases(draw: st.DrawFn) -> tuple[str, bytes, str]:
    depth = draw(st.sampled_from([8, 16]))
    chunks, told = b"", []
    for _ in range(draw(st.integers(1, 3))):
        name, value = draw(st.sampled_from(_CHUNKS)), draw(_BYTES)
        if name in ("zTXt", "iCCP", "iTXt") and draw(st.booleans()):
            value = b"name\0\0" + (b"\0\0\0" if name == "iTXt" else b"") + zlib.compress(value)
        elif name == "eXIf" and draw(st.booleans()):
            value = b"II*\0\x08\0\0\0\x01\0\x12\1\3\0\1\0\0\0" + value
        chunks += png_chunk(name.encode(), value)
        told.append(f"{name} {value!r}")
    header = struct.pack(">IIBBBBB", 72, 64, depth, 2, 0, 0, 0)
    rows = (b"\0" + bytes(range(216)) * (depth // 8)) * 64
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks
    content += png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return f"PNG of {depth} bits with {'; '.join(told)}", content, ".png"


@st.composite
def jpeg_cases(draw: st.DrawFn) -> tuple[str, bytes, str]:
    exif = draw(_BYTES)
    if draw(st.booleans()):
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\1\x12\0\3\0\0\0\1" + exif
    profile = ImageCms.ImageCmsProfile(
        ImageCms.createProfile(draw(st.sampled_from(["XYZ", "LAB", "sRGB"])))
    ).tobytes()
    place = draw(st.integers(0, len(profile) - 1))
    profile = draw(
        st.sampled_from([b"", profile, profile[:place], profile[:place] + b"\xff" + profile[place + 1 :]])
    )
    form, mode = draw(st.sampled_from([("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGBA"), ("TIFF", "RGB")]))
    encoded = io.BytesIO()
    pixels = np.full((64, 72, 3), 90, np.uint8)
    Image.fromarray(pixels).convert(mode).save(
        encoded, form, exif=b"" if form == "TIFF" else exif, icc_profile=profile
    )
    told = f"{form} {mode} with EXIF {exif!r} and a profile of {len(profile)} bytes changed at {place}"
    return told, encoded.getvalue(), {"JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif"}[form]


@st.composite
def tiff_cases(draw: st.DrawFn) -> tuple[str, bytes, str]:
    tag = draw(
        st.sampled_from([254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 282, 284, 296, 317, 338, 339])
    )
    value = draw(st.sampled_from([0, 1, 2, 3, 5, 7, 8, 33, 64, 65535, 2**31, 2**32 - 1]))
    count = draw(st.sampled_from([1, 1, 1, 0, 2, 3, 1000, 2**31]))
    return f"TIFF with tag {tag} = {value} (of {count})", tiff(tag, value, count), ".tif"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    made: st.SearchStrategy[tuple[str, bytes, str]] = st.one_of(
        exr_cases(), exr_cases(), png_cases(), jpeg_cases(), tiff_cases()
    )
    told, content, suffix = draw(made)
    reader = draw(st.sampled_from(sorted(READERS)))
    return Case(f"{reader} of {told}", _act(reader, content, suffix))


def _act(reader: str, content: bytes, suffix: str) -> Callable:
    return lambda folder: read_and_judge(reader, content, folder / f"x{suffix}")


KIND = Kind("metadata", cases(), 800, 60)
