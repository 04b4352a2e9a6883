"""Data set folders and shards: sound ones of small spheres, with odd indices, odd descriptions and damaged files."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st

from delit_models.errors import DelitError
from training.data.check import check_folder
from training.data.shards import open_pairs
from training.data.sphere_pairs import write_sphere_pairs
from training.make_shards import make_shards

from .damage import damaged, odd_json, to_json
from .harness import Case, Fault, Kind, files_below
from .picture_files import sound as check_sound


@lru_cache
def sound_folder(shards: bool = False) -> dict[str, bytes]:
    """Files of a data set of three spheres, or of its shards, by their names."""
    with TemporaryDirectory() as folder:
        write_sphere_pairs(Path(folder, "data"))
        if not shards:
            return files_below(Path(folder, "data"))
        Path(folder, "data", "dataset.json").write_text(json.dumps({"format_version": 1, "size": 64}))
        make_shards(Path(folder, "data"), Path(folder, "shards"), 2)
        return files_below(Path(folder, "shards"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sound = sound_folder(draw(st.booleans()))
    files = dict(sound)
    told = []
    for _ in range(draw(st.integers(1, 2))):
        name = draw(
            st.sampled_from(sorted(files) + [name for name in files if name.endswith(("jsonl", "json"))] * 8)
        )
        if name not in files:
            continue
        how = draw(st.sampled_from(["odd", "odd", "damaged", "gone", "moved"]))
        # What is damaged or in another's place already is no JSON to make odd.
        how = "damaged" if how == "odd" and files[name] != sound[name] else how
        if how == "odd" and name.endswith(".jsonl"):
            lines = [json.loads(line) for line in files[name].decode().splitlines()]
            place = draw(st.integers(0, len(lines) - 1))
            lines[place] = draw(odd_json(lines[place]))
            told.append(f"line {place} is {json.dumps(lines[place])[:200]}")
            files[name] = "\n".join(to_json(line) for line in lines).encode()
        elif how == "odd" and name.endswith(".json"):
            files[name] = to_json(draw(odd_json(json.loads(files[name])))).encode()
            told.append(f"{name} is {files[name][:200]!r}")
        elif how == "gone":
            told.append(f"{name} is gone")
            del files[name]
        elif how == "moved" and len(files) > 1:
            other = draw(st.sampled_from(sorted(files)))
            told.append(f"{name} in the place of {other}")
            files[other] = files[name]
        else:
            done, files[name] = draw(damaged(files[name]))
            told.append(f"{name}: {done}")
    reader = draw(st.sampled_from(sorted(READERS)))
    return Case(f"{reader}: {'; '.join(told)}", lambda folder: _read(reader, files, folder / "data"))


def _read(reader: str, files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.mkdir(exist_ok=True)
    try:
        READERS[reader](folder)
    finally:
        if files_below(folder) != files:
            raise Fault(f"{reader} changed the data set that it read")
        shutil.rmtree(folder)


def _pairs(folder: Path) -> None:
    for split in ("train", "test"):
        pairs = open_pairs(folder, split)
        for number in range(len(pairs)):
            pair = pairs[number]
            for part in (pair.relit, pair.flat, pair.mask):
                check_sound(part, "a pair's picture", 0, 1)
            check_sound(pair.env, "a pair's light", 0)
            check_sound(pairs.light(number), "light()", 0)
            pairs.stamp(number)


def _check(folder: Path) -> None:
    check = check_folder(folder)
    if len(check.sound) > len(check.records):
        raise Fault("check_folder found more sound pairs than there are")
    if check.findings:
        raise DelitError(f"{check.findings[0].name}: {check.findings[0].problem}")


def _shards(folder: Path) -> None:
    output = folder.with_name("shards")
    try:
        make_shards(folder, output, 2)
        _pairs(output)
    except DelitError:
        partial = [path.name for path in folder.parent.iterdir() if "partial" in path.name]
        if partial:
            raise Fault("make_shards left a part of what it began") from None
        raise
    finally:
        shutil.rmtree(output, ignore_errors=True)


READERS = {"pairs": _pairs, "check": _check, "make_shards": _shards}
KIND = Kind("data sets", cases(), 600, 30)
