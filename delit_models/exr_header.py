"""How much an OpenEXR header holds, told before OpenEXR reads it.

Reading one takes time that grows with the square of its channels and attributes, and the memory that its texts ask for:
a few megabytes could keep a server busy for hours. Layout: “OpenEXR File Layout” of the OpenEXR documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import DelitError

LARGEST_HEADER = 64_000_000
"""Bytes of all parts' headers together; the largest in use hold a few million, of Cryptomatte's names."""

LARGEST_CHANNEL_LIST = 300_000
"""Bytes: 1024 channels, as many as OpenImageIO reads, with names of the greatest length."""

MOST_ATTRIBUTES = 4096
"""Of all parts together."""

_MAGIC = b"\x76\x2f\x31\x01"
_MULTI_PART = 0x10  # in the version field's second byte
_LONGEST_NAME = 255
_VECTORS = (b"stringvector", b"floatvector")


def check_exr_header(file: Path) -> None:
    """Refuse an OpenEXR file whose header holds, or says that it holds, more than any picture's, or what OpenImageIO
    crashes on.

    What is no OpenEXR file, or cannot be read or is cut short in its header, passes: reading it says so.

    Raises:
        DelitError: naming what there is too much of, or which attribute it is.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
            if len(start) == 8 and start[:4] == _MAGIC:
                _check_attributes(file, opened, multi_part=bool(start[5] & _MULTI_PART))
    except OSError:
        return


def _check_attributes(file: Path, opened: BinaryIO, multi_part: bool) -> None:
    count = size = 0
    for name, kind, length in _attributes(opened, multi_part):
        count, size = count + 1, size + len(name) + len(kind) + 6 + length
        if kind == b"chlist" and length > LARGEST_CHANNEL_LIST:
            raise _refusal(file, f"{length:,} bytes of channels' names", LARGEST_CHANNEL_LIST)
        if kind in _VECTORS and not length:
            raise DelitError(
                f"{file} has an EXR header in which {name.decode(errors='replace')!r} is a list of nothing, which "
                "OpenImageIO reads as something: it is damaged. Export it again."
            )
        if size > LARGEST_HEADER:
            raise _refusal(file, f"{size:,} bytes or more", LARGEST_HEADER)
        if count > MOST_ATTRIBUTES:
            raise _refusal(file, f"{count:,} attributes or more", MOST_ATTRIBUTES)


def _attributes(opened: BinaryIO, multi_part: bool) -> Iterator[tuple[bytes, bytes, int]]:
    """(name, type, bytes of its value) of each attribute, until the header ends or breaks off.

    An empty name ends a part's header; of several parts an empty header ends the list.
    """
    ended = True
    while (name := _text(opened)) is not None:
        if not name and (ended or not multi_part):
            return
        ended = not name
        if ended:
            continue
        kind, length = _text(opened), opened.read(4)
        if kind is None or len(length) < 4:
            return
        value = struct.unpack("<I", length)[0]
        yield name, kind, value
        opened.seek(value, 1)


def _text(opened: BinaryIO) -> bytes | None:
    """The bytes up to the next zero; None where a name does not end."""
    letters = bytearray()
    while len(letters) <= _LONGEST_NAME:
        letter = opened.read(1)
        if not letter:
            return None
        if letter == b"\0":
            return bytes(letters)
        letters += letter
    return None


def _refusal(file: Path, found: str, most: int) -> DelitError:
    return DelitError(
        f"{file} has an EXR header with {found}; Delit reads up to {most:,}. It is damaged, or made to keep readers "
        "busy: export it again, with its colour channels alone."
    )
