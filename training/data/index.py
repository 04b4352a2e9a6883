"""The one reader of a data set's `index.jsonl`, a line a pair. Whoever reads it decides what a faulty line means: for
training it is an error, for `training.check_dataset` a finding, and for the generator a sample to make again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from delit_models.errors import DelitError
from delit_models.json_text import parse_json
from delit_models.presence import is_file

INDEX_FILE = "index.jsonl"
PAIR_FILES = ("relit", "flat", "mask", "env_map")
"""The fields of an index line that name files."""

REQUIRED = ("subject", "env", "split", *PAIR_FILES)
_LONGEST_LINE = 1_000_000


@dataclass(frozen=True)
class IndexLine:
    """A line of the index.

    Attributes:
        number: from 1.
        entry: all that it says, with at least the fields of `REQUIRED`; empty for a line that cannot be used.
        problem: why it cannot, and what to do about it; empty for one that can.
    """

    number: int
    entry: dict
    problem: str = ""


def index_lines(root: str | Path) -> Iterator[IndexLine]:
    """The lines of a data set folder's index in their order, one in memory at a time; blank ones are passed over.

    Raises DelitError if the folder has no index, or one that is no text or has a line longer than any pair's.
    """
    index = Path(root) / INDEX_FILE
    if not is_file(index):
        raise DelitError(
            f"{root} is no data set: it has no {INDEX_FILE}. Give the folder that holds it, or make a data set with "
            "training.generate_toy_dataset."
        )
    return (_read_line(number, line) for number, line in _texts(index) if line.strip())


def _texts(index: Path) -> Iterator[tuple[int, str]]:
    """The lines with their numbers from 1."""
    try:
        with index.open("rb") as file:
            for number in count(1):
                line = file.readline(_LONGEST_LINE + 1)
                if not line:
                    return
                if len(line) > _LONGEST_LINE:
                    raise DelitError(
                        f"Line {number} of {index} is over {_LONGEST_LINE:,} bytes long: the file is damaged."
                    )
                yield number, line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DelitError(
            f"Line {number} of {index} is no text in UTF-8 ({error.reason}). Repair or remove it."
        ) from error
    except OSError as error:
        raise DelitError(f"{index} cannot be read: {error.strerror or error}.") from error


def _read_line(number: int, line: str) -> IndexLine:
    try:
        entry = parse_json(line)
    except ValueError:
        return IndexLine(number, {}, "it is no JSON; remove or repair the line")
    if not isinstance(entry, dict):
        fields = ", ".join(f'"{key}": …' for key in REQUIRED)
        return IndexLine(number, {}, f"it is no JSON object; a line is {{{fields}}}")
    missing = [key for key in REQUIRED if not isinstance(entry.get(key), str)]
    if missing:
        return IndexLine(number, {}, f"it does not say {', '.join(missing)}")
    return IndexLine(number, entry)
