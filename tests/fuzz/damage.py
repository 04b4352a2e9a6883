"""Damaging files: bits flipped, cut short at every place where a header ends, pieces lost, doubled and swapped; and
JSON with something odd in one of its places.
"""

from __future__ import annotations

import copy
import json
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

HEADER = 512
"""Bytes at the start in which damage is likelier: that is where the headers are."""


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> tuple[str, bytes]:
    """What was done, and the damaged bytes. Now and then nothing is."""
    kind = draw(
        st.sampled_from(["bits", "bits", "bytes", "cut", "cut", "boundary", "hole", "double", "swap", "none"])
    )
    if kind == "none" or len(content) < 16:
        return "whole", content
    places = [draw(_place(len(content))) for _ in range(draw(st.integers(1, 6)))]
    damaged_bytes = bytearray(content)
    if kind == "bits":
        for place in places:
            damaged_bytes[place] ^= 1 << (place * 7 % 8)
    elif kind == "bytes":
        for place in places:
            damaged_bytes[place] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    elif kind == "cut":
        damaged_bytes = damaged_bytes[: places[0]]
    elif kind == "boundary":
        ends = boundaries(content)
        place = ends[places[0] % len(ends)] if ends else places[0]
        places, damaged_bytes = [place], damaged_bytes[:place]
    elif kind == "hole":
        length = draw(st.integers(1, 64))
        damaged_bytes[places[0] : places[0] + length] = bytes(length)
    elif kind == "double":
        damaged_bytes[places[0] : places[0]] = content[places[0] : places[0] + draw(st.integers(1, 64))]
    else:
        length = draw(st.integers(1, 32))
        first, second = (slice(place, place + length) for place in (places * 2)[:2])
        damaged_bytes[first], damaged_bytes[second] = content[second], content[first]
    return f"{kind} at {places}", bytes(damaged_bytes)


def _place(length: int) -> st.SearchStrategy[int]:
    return st.integers(0, min(length, HEADER) - 1) | st.integers(0, length - 1)


def boundaries(content: bytes) -> list[int]:
    """Where the parts of a file's headers end, for each kind that Delit reads; empty for what is none of them, and for
    what is damaged already."""
    readers = (_png, _jpeg, _exr, _tiff, _radiance, _safetensors, _zip, _tar, _boxes)
    try:
        found = next((ends for reader in readers if (ends := reader(content))), [])
    except (ValueError, struct.error):
        return []
    return sorted({end for end in found if 0 < end < len(content)})


def _png(content: bytes) -> list[int]:
    if not content.startswith(b"\x89PNG"):
        return []
    ends, place = [8], 8
    while place + 8 <= len(content):
        length = struct.unpack(">I", content[place : place + 4])[0]
        ends += [place + 4, place + 8, place + 8 + length, place + 12 + length]
        place += 12 + length
    return ends


def _jpeg(content: bytes) -> list[int]:
    if not content.startswith(b"\xff\xd8"):
        return []
    ends, place = [2], 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        length = struct.unpack(">H", content[place + 2 : place + 4])[0]
        ends += [place + 2, place + 4, place + 2 + length]
        place += 2 + length
    return ends


def _exr(content: bytes) -> list[int]:
    if not content.startswith(b"\x76\x2f\x31\x01"):
        return []
    ends, place = [4, 8], 8
    while place < len(content) and content[place]:
        name_end = content.index(b"\0", place) + 1
        type_end = content.index(b"\0", name_end) + 1
        size = struct.unpack("<I", content[type_end : type_end + 4])[0]
        ends += [name_end, type_end, type_end + 4, type_end + 4 + size]
        place = type_end + 4 + size
    # The table of the chunks' places, and the first chunk's header.
    return [*ends, place + 1, *range(place + 1, place + 65, 8)]


def _tiff(content: bytes) -> list[int]:
    if content[:4] not in (b"II*\0", b"MM\0*"):
        return []
    order = "<" if content[:2] == b"II" else ">"
    first = struct.unpack(f"{order}I", content[4:8])[0]
    count = struct.unpack(f"{order}H", content[first : first + 2])[0]
    return [4, 8, first, first + 2, *(first + 2 + 12 * entry for entry in range(1, count + 1))]


def _radiance(content: bytes) -> list[int]:
    if not content.startswith(b"#?"):
        return []
    return [place + 1 for place, byte in enumerate(content[:400]) if byte == 0x0A]


def _safetensors(content: bytes) -> list[int]:
    if content[8:9] != b"{":
        return []
    end = 8 + struct.unpack("<Q", content[:8])[0]
    return [8, end, *range(end, len(content), max(1, (len(content) - end) // 16))]


def _zip(content: bytes) -> list[int]:
    if not content.startswith(b"PK"):
        return []
    ends, place = [], content.find(b"PK")
    while place >= 0:
        ends += [place, place + 4, place + 30]
        place = content.find(b"PK", place + 2)
    return ends


def _tar(content: bytes) -> list[int]:
    return list(range(512, len(content), 512)) if content[257:262] == b"ustar" else []


def _boxes(content: bytes) -> list[int]:
    """MP4: boxes, those inside of moov and the like too."""
    if content[4:8] != b"ftyp":
        return []
    ends: list[int] = []

    def walk(start: int, stop: int) -> None:
        while start + 8 <= stop:
            size, name = struct.unpack(">I4s", content[start : start + 8])
            if size < 8:
                return
            ends.extend([start + 4, start + 8, start + size])
            if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
                walk(start + 8, min(start + size, stop))
            start += size

    walk(0, len(content))
    return ends


_DEEP = "lists {} deep"


_ODD = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**30, 1e308, -1e-320, math.nan, math.inf),
    *("", ".", "..", "../../../etc/passwd", "/etc/passwd", "/dev/zero", "C:\\windows\\win.ini", "\0", "a\nb"),
    *("x" * 5000, "\ud800", "日本語", "<script>alert(1)</script>", "%s%n"),
    *([], {}, [[]], [None], {"": {}}, [1] * 1000),
]


def odd_values() -> st.SearchStrategy[Any]:
    """JSON values that a reader may not expect in a place."""
    return st.one_of(
        st.sampled_from(_ODD),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.integers(100, 100_000).map(_DEEP.format),
    )


def to_json(value: Any) -> str:
    """JSON text, with lists in lists in lists … where `odd_values` meant some: deeper than Python could hold them."""
    text = json.dumps(value)
    return re.sub(
        '"' + _DEEP.format(r"(\d+)") + '"', lambda found: "[" * int(found[1]) + "]" * int(found[1]), text
    )


@st.composite
def odd_json(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with one to three of its places changed, taken away or doubled."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        value = _changed(draw, value)
    return value


def _changed(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        what = draw(st.sampled_from(["inside", "inside", "gone", "more"]))
        if what == "inside":
            value[key] = _changed(draw, value[key])
        elif what == "gone":
            del value[key]
        else:
            value[draw(st.text(max_size=5)) + key] = draw(odd_values())
        return value
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        value[place] = _changed(draw, value[place])
        return value
    return draw(odd_values())


def pieces(content: bytes, ends: Sequence[int]) -> list[bytes]:
    """The file cut off at each of some places, and one byte to either side of it."""
    return [
        content[:end] for place in ends for end in (place - 1, place, place + 1) if 0 <= end < len(content)
    ]
