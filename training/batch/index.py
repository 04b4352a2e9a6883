"""What is done in an output folder: `index.jsonl`, one line for each piece of work, written after its results.

A line says which state of the files, the settings and the weights its results were made from: where that has changed,
the piece is done again. Results without a line (whoever made them was stopped, or the index is lost) are taken as they
are and get one.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable
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
        line = self._lines.get(key)
        if line is not None and line.get("inputs") != inputs:
            return False
        return all(path.name in self._names_of(path.parent) for path in files)

    def line(self, key: str) -> dict:
        """What was said of it when it was done; empty where nothing was."""
        return self._lines.get(key, {})

    def add(self, key: str, inputs: str, said: dict) -> None:
        """It is done: all its results are written."""
        line = {"name": key, "inputs": inputs, **said}
        # A line before it, of what it was made from then, goes when all is done.
        self._untidy |= key in self._lines
        self._lines[key] = line
        if is_remote(self.file):
            self._behind = True
            if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
                self._write_all()
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _names_of(self, folder: Path) -> set[str]:
        if folder not in self._names:
            self._names[folder] = names_in(folder)
        return self._names[folder]

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
