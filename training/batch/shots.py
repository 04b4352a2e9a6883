"""A shot list: a CSV with one row a shot, as spreadsheets and production trackers write it.

    shot,source,mask,coding,gain
    sh010,plates/sh010.####.exr,,ACEScg,yes
    sh020,plates/sh020.####.exr,mattes/sh020.####.png,ACEScg,yes

Paths are relative to the list. `first` and `last` are frame numbers; the other columns are named and filled as the
options of the command line are, `yes` or `no` for those without a value; an empty cell is as the command line says.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from delit_models.coding import Coding
from delit_models.errors import DelitError
from delit_models.free_names import first_two_alike
from delit_models.images import Area, Outside
from delit_models.lat_long import ORIENTATIONS
from delit_models.video.light import EnvPooling

from .results import DEPTHS

LARGEST_LIST = 20_000_000
"""Bytes of a list: some hundred thousand shots."""

_NAME = re.compile(r"\w[\w.-]*")
_SAID = {"yes": True, "true": True, "1": True, "x": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Shot:
    """A row.

    Attributes:
        name: letters, digits, `_`, `-` and `.`; no other shot has it.
        source, mask: as the list has them; the mask is empty where there is none.
        first, last: frame numbers; 0 is the first, or last, that is there.
        settings: by the names of the command line's options; `sequence` is on unless the list says no.
        line: of the list, from 1.
    """

    name: str
    source: str
    mask: str = ""
    first: int = 0
    last: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    line: int = 0


def _one_of(*choices: str) -> Callable[[str], str]:
    def choice(text: str) -> str:
        if text not in choices:
            raise ValueError(f"is none of {', '.join(choices)}")
        return text

    return choice


def _frame(text: str) -> int:
    if not text.isdigit():
        raise ValueError("is no frame number")
    return int(text)


def _yes(text: str) -> bool:
    if text.lower() not in _SAID:
        raise ValueError("is neither yes nor no")
    return _SAID[text.lower()]


def _stops(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("is no number of stops") from None


SETTINGS: dict[str, Callable[[str], Any]] = {
    "coding": _one_of(*get_args(Coding)),
    "exposure": _stops,
    "area": _one_of(*get_args(Area)),
    "outside": _one_of(*get_args(Outside)),
    "bit_depth": _one_of(*DEPTHS),
    "gain": _yes,
    "matte": _yes,
    "working_size": _frame,
    "orientation": _one_of(*ORIENTATIONS),
    "env_pooling": _one_of(*get_args(EnvPooling)),
    "sequence": _yes,
}
"""Columns that are settings, and how a cell is read."""

COLUMNS = ("shot", "source", "mask", "first", "last", *SETTINGS)


def read_shots(path: Path) -> list[Shot]:
    """The shots of a list, in its order.

    Raises:
        DelitError: for a list that is not there, is no CSV, has a column that means nothing, or a cell that does not
            say what its column is for; names the line.
    """
    rows = list(_rows(path))
    shots = [_shot(path, line, row) for line, row in rows]
    if not shots:
        raise DelitError(f"{path} lists no shot. Give a row for each below the line of column names.")
    # On Windows and macOS sh010 and SH010 are one folder.
    alike = first_two_alike(shot.name for shot in shots)
    if alike:
        first, again = (shots[place] for place in alike)
        raise DelitError(f"{path}: {again.name} is the shot of line {first.line} and of line {again.line}.")
    return shots


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise DelitError(f"There is no shot list {path}.")
    if path.stat().st_size > LARGEST_LIST:
        raise DelitError(f"{path} has over {LARGEST_LIST:,} bytes: it is no shot list.")
    try:
        # Spreadsheets put a mark before UTF-8.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DelitError(f"{path} is no UTF-8 text. Export it as CSV, UTF-8.") from error
    head = text.lstrip().split("\n", 1)[0]
    # Where a comma is the decimal sign, spreadsheets separate cells by semicolons.
    reader = csv.reader(io.StringIO(text), delimiter=";" if ";" in head and "," not in head else ",")
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise DelitError(f"{path}, line {reader.line_num}: {error}.") from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if not rows:
        return []
    columns = rows[0][1]
    _check_columns(path, columns)
    for line, cells in rows[1:]:
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            raise DelitError(f"{path}, line {line} has {len(cells)} cells for {len(columns)} columns.")
    return [(line, dict(zip(columns, cells, strict=False))) for line, cells in rows[1:]]


def _check_columns(path: Path, columns: list[str]) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise DelitError(
            f"{path}: “{unknown[0]}” is no column of a shot list. There are {', '.join(COLUMNS)}, named in the first "
            "line."
        )
    if len(set(columns)) < len(columns):
        raise DelitError(f"{path} names a column twice.")
    for needed in ("shot", "source"):
        if needed not in columns:
            raise DelitError(f"{path} has no column “{needed}”; the first line names the columns.")


def _shot(path: Path, line: int, row: dict[str, str]) -> Shot:
    where = f"{path}, line {line}"
    name, source = row.get("shot", ""), row.get("source", "")
    if not _NAME.fullmatch(name):
        raise DelitError(f"{where}: “{name}” is no name of a shot; letters, digits, _, - and . make one.")
    if not source:
        raise DelitError(f"{where}: {name} has no source.")
    settings: dict[str, Any] = {"sequence": True}
    frames = {}
    for column, text in row.items():
        if not text or column in ("shot", "source", "mask"):
            continue
        try:
            if column in ("first", "last"):
                frames[column] = _frame(text)
            else:
                settings[column] = SETTINGS[column](text)
        except ValueError as error:
            raise DelitError(f"{where}: {column} “{text}” {error}.") from error
    return Shot(name, source, row.get("mask", ""), settings=settings, line=line, **frames)
