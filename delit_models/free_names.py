"""Names that are free, and names that are one: the next version and number of files in a folder, the first two names
alike. Capitals do not tell names apart: on Windows and macOS they would be one file."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path


def first_two_alike(names: Iterable[str]) -> tuple[int, int] | None:
    """Places of the first name that is another's on a disk where capitals do not count, and of that other before it."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        before = places.setdefault(name.casefold(), place)
        if before != place:
            return before, place
    return None


def free_version(folder: Path, name: str) -> int:
    """The first version V after all of which there is a file, `name_vV…`."""
    start = f"{name}_v".casefold()
    found = (path.name.casefold() for path in folder.glob("*"))
    digits = (other[len(start) :].split(".")[0] for other in found if other.startswith(start))
    return 1 + max((int(number) for number in digits if _is_number(number)), default=0)


def free_number(folder: Path, name: str, suffixes: Collection[str]) -> int:
    """The number N after the last file `name.N.suffix`, whichever of the suffixes; 1 where there is none."""
    start = f"{name}.".casefold()
    found = (path.name.casefold() for path in folder.glob("*") if path.suffix.lower() in suffixes)
    parts = (other[len(start) :].split(".") for other in found if other.startswith(start))
    return 1 + max((int(part[0]) for part in parts if len(part) == 2 and _is_number(part[0])), default=0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
