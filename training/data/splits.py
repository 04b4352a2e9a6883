"""Pairs to train on and pairs to choose the best heads by: people of the training split, never mixed.

The test split is left alone until `training.evaluate` measures what is kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from .pairs import Pairs

# So many of a hundred people are kept for validation.
_SHARE = 0.05


@dataclass(frozen=True)
class TrainingSplit:
    """Numbers of the pairs to learn from, and of those to validate on (perhaps none)."""

    learned: list[int]
    validated: list[int]


def split_subjects(dataset: Pairs) -> TrainingSplit:
    """Keep every twentieth subject for validation, chosen by the hash of its name, so that it is the same one when
    more people are added. Of fewer than twenty people none is kept."""
    numbers: dict[str, list[int]] = {}
    for number, record in enumerate(dataset.records):
        numbers.setdefault(record.subject, []).append(number)
    by_hash = sorted(numbers, key=_place)
    kept = {name for name in by_hash if _place(name) < _SHARE} if len(by_hash) >= 1 / _SHARE else set()
    if len(kept) == len(by_hash) or (not kept and len(by_hash) >= 1 / _SHARE):
        kept = set(by_hash[: max(1, round(_SHARE * len(by_hash)))])
    return TrainingSplit(
        learned=[number for name in numbers if name not in kept for number in numbers[name]],
        validated=[number for name in numbers if name in kept for number in numbers[name]],
    )


def _place(subject: str) -> float:
    """A place in [0, 1) that only the name decides."""
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:6], "big") / 2**48
