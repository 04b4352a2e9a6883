"""What the heads' configuration may say. It comes out of a file that a stranger may have written: nothing is built,
and no memory taken, for numbers that no heads have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .errors import DelitError
from .heads_blocks import GROUPS

WIDEST = 4096
"""Channels of a layer at the most."""

MOST_BLOCKS = 64
FINEST_GRID = 64
MOST_DOUBLINGS = 6
"""The env decoder doubles to 128 rows; it starts with two at the least."""

WORKING_SIZES = (64, 8192)

_RANGES = {
    "feature_channels": (GROUPS, WIDEST),
    "flat_width": (GROUPS, WIDEST),
    "env_token_width": (1, WIDEST),
    "env_query_blocks": (0, MOST_BLOCKS),
    "env_context_grid": (1, FINEST_GRID),
    "attention_heads": (1, WIDEST),
    "working_size": WORKING_SIZES,
}
_LENGTHS = {
    "latent_mean": (1, 1024),
    "latent_std": (1, 1024),
    "extractor_widths": (1, 8),
    "env_decoder_widths": (1, MOST_DOUBLINGS),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise DelitError, naming the setting, unless heads can be built of these (see heads.DelitConfig)."""
    for name, (least, most) in _RANGES.items():
        _check_count(name, settings[name], least, most)
    for name, (least, most) in _LENGTHS.items():
        values = settings[name]
        if not isinstance(values, tuple) or not least <= len(values) <= most:
            raise DelitError(
                f"The heads' configuration has {name} = {_short(values)}; it is {least} to {most} numbers."
            )
        for value in values:
            if name.startswith("latent"):
                _check_number(name, value)
            else:
                _check_count(name, value, 1, WIDEST)
    for name in ("matte", "env_sees_middle", "temporal"):
        if not isinstance(settings[name], bool):
            raise DelitError(
                f"The heads' configuration has {name} = {_short(settings[name])}; it is true or false."
            )
    _check_relations(settings)


def _check_relations(settings: Mapping[str, Any]) -> None:
    means, deviations = settings["latent_mean"], settings["latent_std"]
    if len(means) != len(deviations):
        raise DelitError(
            f"The heads' configuration has {len(means)} latent means but {len(deviations)} standard deviations; there "
            "must be one of each per latent channel."
        )
    if min(deviations) <= 0:
        raise DelitError("The heads' configuration has a latent standard deviation that is not positive.")
    grouped = (*settings["extractor_widths"], settings["feature_channels"], settings["flat_width"])
    if any(width % GROUPS for width in grouped):
        raise DelitError(
            f"The heads' configuration has widths {grouped}; they must be multiples of {GROUPS}."
        )
    heads = settings["attention_heads"]
    attending = (settings["extractor_widths"][-1], settings["env_token_width"])
    if any(width % heads for width in attending):
        raise DelitError(
            f"The heads' configuration shares {attending} channels among {heads} attention heads; it must go evenly."
        )


def _check_count(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DelitError(
            f"The heads' configuration has {name} = {_short(value)}; it is a whole number from {least} to {most}."
        )


def _check_number(name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Larger ones are infinite in float32.
    if not number or not math.isfinite(value) or abs(value) > 1e6:
        raise DelitError(
            f"The heads' configuration has {name} with {_short(value)} in it; it is finite numbers."
        )


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"
