"""What is done in an output folder: `index.jsonl`, one line for each piece of work.

A line says which state of the files, the settings and the weights its results were made from: where that has changed,
the piece is done again. Of what nothing is there yet, a line says `begun` before the work, and is replaced when the
results are there. So the results of a run that was stopped are known, and files that no line speaks of are somebody
else's.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from delit_models.atomic_write import atomic_write
from delit_models.json_text import parse_json

from .places import fetched, is_remote, names_in, stored

logger = logging.getLogger(__name__)

INDEX_FILE = "index.jsonl"
# An object store cannot append: there the index is written anew, at most so often. What was done since is known by its
# files.
SECONDS_BETWEEN_WRITES = 30.0


class Index:
    """The index of an output folder, while it is read and written. One process at a time keeps it: the one who gives
    the work out."""

    def __init__(self, output: Path) -> None:
        self.file = output / INDEX_FILE
        self._lines: dict[str, dict] = {}
        self._names: dict[Path, set[str]] = {}
        self._written = time.monotonic()
        self._untidy = self._behind = False
        if INDEX_FILE in names_in(output):
            self._read()

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._untidy or self._behind:
            self._write_all()

    def has(self, key: str, inputs: str, files: Iterable[Path] = ()) -> bool:
        """Whether what has this name is done: its results are there, made from what there is now."""
        return self.line(key).get("inputs") == inputs and all(map(self.is_there, files))

    def is_there(self, file: Path) -> bool:
        """Whether a file is there, or was when its folder was first asked for."""
        if file.parent not in self._names:
            self._names[file.parent] = names_in(file.parent)
        return file.name in self._names[file.parent]

    def line(self, key: str) -> dict:
        """What was said of it when it was done or begun; empty where nothing was."""
        return self._lines.get(key, {})

    def begin(self, pieces: Mapping[str, str]) -> None:
        """These, of which nothing is there yet, are about to be done: their names, and what they are made from."""
        lines = [{"name": key, "inputs": inputs, "begun": True} for key, inputs in pieces.items()]
        self._lines |= {line["name"]: line for line in lines}
        if is_remote(self.file):
            self._write_all()
        else:
            self._append(lines)

    def add(self, key: str, inputs: str, said: dict) -> None:
        """It is done: all its results are written."""
        line = {"name": key, "inputs": inputs, **said}
        # The line before it goes when all is done.
        self._untidy |= key in self._lines
        self._lines[key] = line
        if is_remote(self.file):
            self._behind = True
            if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
                self._write_all()
            return
        self._append([line])

    def _append(self, lines: Iterable[dict]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        with fetched(self.file) as path:
            content = path.read_text(encoding="utf-8", errors="replace")
        # Cut off between a line and its end: the next line would be written behind it.
        self._untidy = not content.endswith("\n") and content != ""
        for text in content.splitlines():
            try:
                line = parse_json(text)
                known = line["name"]
            except (ValueError, KeyError, TypeError):
                logger.warning("%s has a broken line, left by an interrupted run.", self.file)
                self._untidy = True
                continue
            self._untidy |= known in self._lines
            self._lines[known] = line
        if self._untidy:
            self._write_all()

    def _write_all(self) -> None:
        with stored(self.file) as path, atomic_write(path) as temporary:
            temporary.write_text(
                "".join(json.dumps(line) + "\n" for line in self._lines.values()), encoding="utf-8"
            )
        self._written = time.monotonic()
        self._untidy = self._behind = False
