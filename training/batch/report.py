"""What came of a run: a line for each failure, and report.json."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.errors import DelitError

from .places import stored

REPORT_FILE = "report.json"


@dataclass
class Report:
    """Counts what is done as it is done.

    Attributes:
        pieces: asked for. left: done before. done: done now.
        failed: of each that failed: its shot, its name, its source, and why.
        aloud: whether failures are said as they come.
    """

    pieces: int = 0
    left: int = 0
    done: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    aloud: bool = True
    started: float = field(default_factory=time.time)

    def add_failure(self, shot: str, name: str, source: str, reason: str) -> None:
        """Keep it, and say it in a line."""
        self.failed.append({"shot": shot, "name": name, "source": source, "reason": reason})
        if self.aloud:
            tqdm.write(f"✗ {name}: {reason}", file=sys.stderr)

    def write(self, output: Path) -> None:
        """To report.json in the output folder."""
        said = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            "seconds": round(time.time() - self.started, 1),
            "asked": self.pieces,
            "done_before": self.left,
            "done": self.done,
            "failed": self.failed,
        }
        with stored(output / REPORT_FILE) as path, atomic_write(path) as temporary:
            temporary.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def raise_failures(self, output: Path) -> None:
        """Raise DelitError if any failed."""
        if self.failed:
            raise DelitError(
                f"{len(self.failed)} of {self.pieces} failed; what and why is in {output / REPORT_FILE}. The same "
                "command tries them again."
            )
