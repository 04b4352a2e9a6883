"""Packs a data set folder into WebDataset shards: a few large .tar files that travel and stream well.

    python -m training.make_shards data --output shards

Training takes the folder of shards wherever it takes the data set: `--data_root shards`. The same data set gives the
same shards, byte for byte. They are written beside the folder (`.shards.partial`) and appear in it all at once.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.errors import DelitError
from delit_models.json_text import read_json
from delit_models.presence import is_file, is_folder, is_there
from training.data.index import INDEX_FILE, PAIR_FILES
from training.data.pairs import LINEAR_FILE, read_entries

from .command_line import run_command

SHARD_SIZE = 500
DESCRIPTION_FILE = "dataset.json"
# What a file is called in a shard, where it is not what the index calls it.
_MEMBER_NAMES = {"env_map": "env"}


def make_shards(
    data_root: Path, output: Path, shard_size: int = SHARD_SIZE, also: tuple[str, ...] = ()
) -> dict[str, dict[str, int]]:
    """Write a data set's pairs as shards.

    Args:
        shard_size: pairs in a shard at the most.
        also: further keys of the index that name files to take along, such as "albedo".

    Returns:
        How many pairs are in each shard: {"train": {"train-000000.tar": 500, …}, "test": …}.
    """
    if shard_size < 1:
        raise DelitError(f"shard_size is {shard_size}; a shard has 1 pair or more.")
    # Several workers end in any order; the names of subject and light do not depend on it.
    entries = sorted(read_entries(data_root), key=lambda entry: (entry["subject"], entry["env"]))
    if not entries:
        raise DelitError(f"{data_root / INDEX_FILE} lists no pair.")
    shards: dict[str, dict[str, int]] = {}
    with _new_folder(output) as folder, tqdm(total=len(entries), unit="pair", mininterval=1) as progress:
        for split in sorted({entry["split"] for entry in entries}):
            own = [entry for entry in entries if entry["split"] == split]
            for first in range(0, len(own), shard_size):
                part = own[first : first + shard_size]
                name = f"{_plain(split)}-{first // shard_size:06d}.tar"
                _write_shard(folder / name, data_root, part, first, also)
                shards.setdefault(split, {})[name] = len(part)
                progress.update(len(part))
        _write_description(data_root, folder, shards)
    return shards


def refuse_filled(folder: Path) -> None:
    """Raises DelitError for a folder that shards cannot be written to, as there is something in its place."""
    if is_there(folder) and not (is_folder(folder) and not any(folder.iterdir())):
        raise DelitError(f"{folder} is not empty. Choose another folder for the shards, or empty it first.")


def packed_already(data_root: Path, output: Path) -> dict[str, dict[str, int]] | None:
    """What `make_shards` returned for a folder that holds the shards of this data set, whole; None for any other."""
    try:
        own, packed = (read_json(folder / DESCRIPTION_FILE) for folder in (data_root, output))
        shards = packed.pop("shards")
        counts = {split: sum(own_shards.values()) for split, own_shards in shards.items()}
        there = all(is_file(output / name) for own_shards in shards.values() for name in own_shards)
        if there and own == packed and counts == Counter(entry["split"] for entry in read_entries(data_root)):
            return shards
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DelitError):
        # Not begun, or of another kind.
        pass
    return None


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place and name only when it is whole."""
    folder = folder.resolve()
    refuse_filled(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        # What a killed run left.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if is_there(folder):
            # Windows puts nothing in the place of a folder, even of an empty one.
            folder.rmdir()
        os.replace(partial, folder)
    except OSError as error:
        raise DelitError(
            f"Cannot write {folder}: {error.strerror or error}. Check that you may write there and that the disk is "
            "not full."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_shard(path: Path, root: Path, entries: list[dict], first: int, also: tuple[str, ...]) -> None:
    with atomic_write(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as shard:
        for number, entry in enumerate(entries, start=first):
            key = f"{number:07d}-{_plain(entry['subject'])}-{_plain(entry['env'])}"
            kept = (LINEAR_FILE,) if LINEAR_FILE in entry else ()
            for field in dict.fromkeys((*PAIR_FILES, *kept, *also)):
                file = _named_file(entry, field, root)
                part = _MEMBER_NAMES.get(field, field)
                _add(shard, f"{key}.{part}{file.suffix.lower()}", file.read_bytes())
            told = {name: value for name, value in entry.items() if not _names_a_file(value, root)}
            _add(shard, f"{key}.json", json.dumps(told, sort_keys=True).encode())


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file that says nothing of when and by whom: equal data sets give equal shards."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    shard.addfile(member, io.BytesIO(content))


def _plain(name: str) -> str:
    """A name without what ends a WebDataset key (a dot) or makes a folder, of a length that a .tar takes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:30]


def _named_file(entry: dict, field: str, root: Path) -> Path:
    if not _names_a_file(entry.get(field), root):
        raise DelitError(
            f"{entry['subject']}/{entry['env']} of {root} names no file as its “{field}” ({entry.get(field)}). Run "
            "python -m training.check_dataset on the data set."
        )
    return root / entry[field]


def _names_a_file(value: object, root: Path) -> bool:
    return isinstance(value, str) and "." in value and is_file(root / value)


def _write_description(data_root: Path, output: Path, shards: dict[str, dict[str, int]]) -> None:
    """The data set's own description, and what is in the shards."""
    present = data_root / DESCRIPTION_FILE
    try:
        description = dict(read_json(present)) if is_file(present) else {}
    except (ValueError, TypeError) as error:
        raise DelitError(f"{present} cannot be read ({error}). Repair or remove it.") from error
    with atomic_write(output / DESCRIPTION_FILE) as temporary:
        temporary.write_text(json.dumps(description | {"shards": shards}, indent=2) + "\n")


def main(arguments: argparse.Namespace) -> None:
    shards = make_shards(
        Path(arguments.data_root), Path(arguments.output), arguments.shard_size, tuple(arguments.also)
    )
    print_counts(shards)


def print_counts(shards: dict[str, dict[str, int]]) -> None:
    """Tell how much `make_shards` has packed."""
    for split, own in shards.items():
        print(f"{split}: {sum(own.values())} pairs in {len(own)} shards")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_root", help="data set folder (training.generate_toy_dataset)")
    parser.add_argument("--output", required=True, help="folder for the shards; made if it is not there")
    parser.add_argument(
        "--shard_size", type=int, default=SHARD_SIZE, help=f"pairs in a shard at the most ({SHARD_SIZE})"
    )
    parser.add_argument(
        "--also", nargs="*", default=[], metavar="KEY",
        help="further files of an index line to take along, such as albedo normals depth (none)",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
