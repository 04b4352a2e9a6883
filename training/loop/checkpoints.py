"""What a run goes on from: its last checkpoint and the one before, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from delit_models.atomic_write import atomic_write, remove_unfinished, replace_file
from delit_models.errors import DelitError
from delit_models.presence import is_file

LAST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
# A new checkpoint until it has taken the last one's place.
_STAGED = "checkpoint.new.pt"
FORMAT_VERSION = 2

Identity = Mapping[str, Any]
"""What two runs must have in common for one to go on with the other's checkpoint, by name; plain values."""


def save_checkpoint(folder: Path, identity: Identity, state: Mapping[str, Any]) -> None:
    """Write the last checkpoint; the one that was the last becomes the previous one.

    Raises DelitError where it cannot be written; the older ones are left then.
    """
    last = folder / LAST
    # Beside its place first: a full disk or a kill leaves both older ones.
    staged = folder / _STAGED
    try:
        with atomic_write(staged) as temporary:
            torch.save(
                {"format": FORMAT_VERSION, "identity": dict(identity), "state": dict(state)}, temporary
            )
        if is_file(last):
            replace_file(last, folder / PREVIOUS)
        replace_file(staged, last)
    except (OSError, RuntimeError) as error:
        # torch's writer says RuntimeError to a full disk, and what it says of it helps nobody.
        reason = getattr(error, "strerror", None) or "its disk is full or gone"
        raise DelitError(
            f"Cannot write {last}: {reason}. The checkpoint before it is kept: make room, and the run goes on from "
            "there."
        ) from error


def find_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints that are in a folder, newest first; one of them may be damaged."""
    return [folder / name for name in (_STAGED, LAST, PREVIOUS) if is_file(folder / name)]


def tidy_checkpoints(folder: Path) -> None:
    """Remove what a killed run had begun to write; for the run that writes to this folder now."""
    remove_unfinished([folder / _STAGED])


def load_checkpoint(folder: Path, identity: Identity) -> dict[str, Any]:
    """The state of the newest checkpoint that can be read.

    Raises DelitError where there is none, or where it is of another run: every name that differs is told.
    """
    found = find_checkpoints(folder)
    if not found:
        raise DelitError(
            f"There is nothing to resume: {folder / LAST} is not there. Leave out --resume to start."
        )
    troubles = []
    for path in found:
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            told, version, state = dict(saved["identity"]), saved["format"], saved["state"]
            differing = _differing(told, identity)
            other_version = bool(version != FORMAT_VERSION)
        except Exception as error:
            # Damaged bytes reach any part of unpickling, which fails in any way it likes.
            troubles.append(f"{path.name}: {type(error).__name__}")
            continue
        if other_version:
            raise DelitError(
                f"{path} is of format {version}; this Delit goes on from format {FORMAT_VERSION}. Start in an empty "
                "output folder; --start_from takes trained heads along."
            )
        if differing:
            raise DelitError(
                f"{path} is of another run: {', '.join(differing)}. Resume with the same settings and data, or start "
                "in an empty output folder (--start_from takes trained heads along)."
            )
        return state
    raise DelitError(
        f"No checkpoint in {folder} can be read ({'; '.join(troubles)}): they are damaged or of an older Delit. Start "
        "in an empty output folder; --start_from takes trained heads along."
    )


def _differing(told: Identity, identity: Identity) -> list[str]:
    """Every name whose value is not the same in both, with the two."""
    names = sorted(
        name
        for name in {*told, *identity}
        if name not in told or name not in identity or told[name] != identity[name]
    )
    return [f"{name} was {told.get(name, 'not set')}, is {identity.get(name, 'not set')}" for name in names]
