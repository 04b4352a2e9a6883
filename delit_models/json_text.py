"""JSON out of files, which a stranger may have written: bounded in length and depth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LONGEST = 64_000_000
"""Bytes of text. What Delit reads is far shorter; as Python objects they would take a gigabyte or two."""


def parse_json(text: str | bytes, longest: int = LONGEST) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: for what is no JSON, too long, or nested so deeply that Python cannot hold it.
    """
    if len(text) > longest:
        raise ValueError(f"it is {len(text):,} bytes long, over {longest:,}")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its lists or objects are nested too deeply") from error


def read_json(path: Path, longest: int = LONGEST) -> Any:
    """The value in a JSON file, of which nothing is read where it is too long.

    Raises:
        ValueError: as `parse_json`, and for bytes that are no UTF-8.
        OSError: for a file that cannot be read.
    """
    size = path.stat().st_size
    if size > longest:
        raise ValueError(f"it is {size:,} bytes long, over {longest:,}")
    return parse_json(path.read_bytes(), longest)
