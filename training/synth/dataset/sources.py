"""The files that a data set is made from, as its dataset.json lists them: a run that goes on must have the same."""

from __future__ import annotations

from pathlib import Path

from delit_models.errors import DelitError
from training.synth.light.lights import hdri_names

from .captures import find_captures

Sources = dict[str, object]
"""{"hdris": {"train": {name: bytes}, "test": {…}}, "captures": [path below the captures' folder, …]}; captures in the
order of their subjects."""


def is_listing(value: object) -> bool:
    """Whether something that was read from a file is what `list_sources` gives."""
    if not isinstance(value, dict) or not isinstance(value.get("captures"), list):
        return False
    hdris = value.get("hdris")
    listings = [hdris.get(split) for split in ("train", "test")] if isinstance(hdris, dict) else [None]
    texts = all(isinstance(path, str) for path in value["captures"])
    return texts and all(isinstance(files, dict) for files in listings)


def list_sources(hdri_dir: Path, captures_dir: Path | None, known: Sources | None) -> Sources:
    """What there is, for a folder that was begun with `known`, or a new one where that is None.

    Captures that have come since follow after the known ones, so that no subject changes.
    Raises DelitError where HDRIs were added, removed or changed, which would change lights and splits, where known
    captures are gone, and for folders that hold too few HDRIs or no captures.
    """
    hdris = {
        split: {path.name: path.stat().st_size for path in hdri_names(hdri_dir, split)}
        for split in ("train", "test")
    }
    captures = [] if captures_dir is None else _capture_paths(captures_dir)
    if known is None:
        return {"hdris": hdris, "captures": captures}
    if known["hdris"] != hdris:
        raise DelitError(
            f"{hdri_dir} holds other HDRIs than this data set was begun with: {_differences(known['hdris'], hdris)}. "
            "Give --hdri_dir the same files, or choose another --output_dir."
        )
    gone = [path for path in known["captures"] if path not in captures]
    if gone:
        raise DelitError(
            f"{captures_dir} lacks {', '.join(gone)}, which this data set was begun with. Put it back, or choose "
            "another --output_dir."
        )
    new = [path for path in captures if path not in known["captures"]]
    return {"hdris": hdris, "captures": known["captures"] + new}


def _capture_paths(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_captures(folder)]


def _differences(known: dict[str, dict[str, int]], found: dict[str, dict[str, int]]) -> str:
    """The names in which two listings differ, with what they were and are."""
    before, after = (
        {name: (split, size) for split, files in listing.items() for name, size in files.items()}
        for listing in (known, found)
    )

    def told(name: str) -> str:
        if name not in after:
            return f"{name} is gone"
        if name not in before:
            return f"{name} is new"
        return f"{name} was of {before[name][1]} bytes ({before[name][0]}), is of {after[name][1]} ({after[name][0]})"

    names = sorted(name for name in before | after if before.get(name) != after.get(name))
    return "; ".join(told(name) for name in names[:5]) + (" …" if len(names) > 5 else "")
