"""JSON out of files, which a stranger may have written: bounded in length and depth."""

from __future__ import annotations

import json
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
