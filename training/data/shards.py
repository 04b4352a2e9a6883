"""Reading pairs from WebDataset shards: plain .tar files in which a pair's files follow each other under one name.

    train-000000.tar: 0000000-s00000-e000.relit.png, ….flat.png, ….mask.png, ….env.exr, ….json, 0000001-…

`training.make_shards` writes them. A few large files travel and stream better than many small ones. They are read
here in place: a shard's table of contents is read once, then a pair is one seek and one read away, in any order;
nothing is unpacked, and only the latest pairs are in memory.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from delit_models.errors import DelitError
from delit_models.json_text import parse_json, read_json
from delit_models.presence import is_file

from .index import INDEX_FILE
from .pairs import (
    LINEAR_FILE,
    JoinedPairs,
    Pair,
    PairDataset,
    Pairs,
    Split,
    file_stamp,
    light_kind,
    read_light,
    read_linear,
    read_picture,
    tone_group,
    unpack_pair,
)

MEMBERS = ("relit", "flat", "mask", "env")
"""What a pair's files are called in a shard, between its key and the suffix."""

# Pairs kept as they were read: a pair's companions and neighbours are asked for soon again.
_KEPT = 64
_LONGEST_DESCRIPTION = 1_000_000  # bytes; that of a pair takes about one thousand


@dataclass(frozen=True)
class Member:
    """Where in its shard a file is: the offset of its first byte, its length, and its suffix (".png")."""

    offset: int
    size: int
    suffix: str


@dataclass(frozen=True)
class ShardRecord:
    """A pair in a shard."""

    subject: str
    env: str
    tone_group: str
    light_kind: str
    shard: Path
    key: str
    members: dict[str, Member]


def open_pairs(data_root: str | Path | Sequence[str | Path], split: Split) -> Pairs:
    """The pairs of one split of a data set folder, or of a folder of shards, or of several of them together.

    Raises DelitError if one of them is neither, or has no pair of the split.
    """
    if not isinstance(data_root, str | Path):
        roots = [open_pairs(root, split) for root in data_root]
        return roots[0] if len(roots) == 1 else JoinedPairs(roots)
    root = Path(data_root)
    if not is_file(root / INDEX_FILE) and any(root.glob("*.tar")):
        return ShardDataset(root, split)
    return PairDataset(root, split)


class ShardDataset(Pairs):
    """The pairs of one split in a folder's shards, in the order of the shards."""

    def __init__(self, data_root: str | Path, split: Split) -> None:
        self.records: list[ShardRecord] = read_shards(Path(data_root), split)
        self._latest: OrderedDict[int, tuple[Tensor, ...]] = OrderedDict()

    def __getitem__(self, index: int) -> Pair:
        record = self.records[index]
        return unpack_pair(f"{record.key} in {record.shard}", *self._packed(index))

    def light(self, index: int) -> Tensor:
        if index in self._latest:
            return self._latest[index][MEMBERS.index("env")].float()
        return _read(self.records[index], ("env",))[0].float()

    def stamp(self, index: int) -> str:
        record = self.records[index]
        return f"{file_stamp(record.shard)} {record.key}"

    def _packed(self, index: int) -> tuple[Tensor, ...]:
        """The pair as `unpack_pair` takes it."""
        index %= len(self)
        if index not in self._latest:
            record = self.records[index]
            also = (LINEAR_FILE,) if LINEAR_FILE in record.members else ()
            self._latest[index] = _read(record, (*MEMBERS, *also))
            if len(self._latest) > _KEPT:
                self._latest.popitem(last=False)
        self._latest.move_to_end(index)
        return self._latest[index]


def read_shards(root: Path, split: Split) -> list[ShardRecord]:
    """Where every pair of a split is. Raises DelitError for shards that are missing, damaged or incomplete."""
    shards = sorted(root.glob(f"{split}-*.tar"))
    expected = expected_pairs(root, split)
    missing = sorted(set(expected) - {shard.name for shard in shards})
    if missing:
        raise DelitError(
            f"{root} lacks {', '.join(missing)}, which its dataset.json lists. Copy what is missing, or make the "
            "shards anew with training.make_shards."
        )
    records = []
    for shard in shards:
        found = _contents(shard)
        if len(found) != expected.get(shard.name, len(found)):
            raise DelitError(
                f"{shard} holds {len(found)} pairs, dataset.json says {expected[shard.name]}: it was cut short. Copy "
                "it again, or make the shards anew with training.make_shards."
            )
        records += found
    if not records:
        raise DelitError(f"{root} has no shard of the “{split}” split ({split}-*.tar).")
    return records


def expected_pairs(root: Path, split: Split) -> dict[str, int]:
    """How many pairs each shard has by dataset.json. Shards of another origin need not have one."""
    description = root / "dataset.json"
    if not is_file(description):
        return {}
    try:
        expected = dict(read_json(description).get("shards", {}).get(split, {}))
        if not all(isinstance(count, int) for count in expected.values()):
            raise ValueError("a number of pairs is no number")
        return expected
    except (ValueError, AttributeError, TypeError, OSError) as error:
        raise DelitError(f"{description} cannot be read ({error}). Copy it again, or remove it.") from error


def _contents(shard: Path) -> list[ShardRecord]:
    """The pairs of one shard, by its headers and the pairs' descriptions alone."""
    members: dict[str, dict[str, Member]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for entry in archive:
                # WebDataset's rule: the key ends at the first dot of the file's name.
                folder, _, name = entry.name.rpartition("/")
                stem, _, rest = name.partition(".")
                part, dot, suffix = rest.rpartition(".")
                if entry.isfile():
                    member = Member(entry.offset_data, entry.size, f".{suffix}")
                    members.setdefault(f"{folder}/{stem}" if folder else stem, {})[part or suffix] = member
    except (tarfile.TarError, OSError) as error:
        raise DelitError(
            f"{shard} cannot be read ({error}): it is no plain .tar, or damaged. Copy it again, or make the shards "
            "anew with training.make_shards."
        ) from error
    return [_record(shard, key, own) for key, own in members.items()]


def _record(shard: Path, key: str, members: dict[str, Member]) -> ShardRecord:
    missing = [name for name in (*MEMBERS, "json") if name not in members]
    if missing:
        raise DelitError(
            f"{key} in {shard} has no {', '.join(missing)}: the shard was cut short, or is no shard of pairs. A pair "
            f"is KEY.relit.png, .flat.png, .mask.png, .env.exr and .json; training.make_shards writes that."
        )
    try:
        if members["json"].size > _LONGEST_DESCRIPTION:
            raise ValueError(f"it is {members['json'].size:,} bytes long")
        entry = parse_json(_bytes(shard, members["json"]))
        subject, env = entry["subject"], entry["env"]
        if not isinstance(subject, str) or not isinstance(env, str):
            raise TypeError("“subject” and “env” are no texts")
    except (ValueError, KeyError, TypeError) as error:
        raise DelitError(
            f"{key}.json in {shard} cannot be read ({error!r}). It needs at least “subject” and “env”."
        ) from error
    return ShardRecord(subject, env, tone_group(entry), light_kind(entry), shard, key, members)


def _read(record: ShardRecord, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Some of a pair's files: pictures as bytes [C, H, W], light as half floats."""
    readers = {"env": read_light, LINEAR_FILE: read_linear}
    tensors = []
    # The libraries that know all the kinds of pictures want files.
    with tempfile.TemporaryDirectory(prefix="delit-") as folder:
        for name in names:
            member = record.members[name]
            file = Path(folder, name + member.suffix)
            try:
                file.write_bytes(_bytes(record.shard, member))
                tensors.append(readers.get(name, read_picture)(file))
            except DelitError as error:
                told = str(error).replace(str(file), f"{record.key}.{file.name} in {record.shard}")
                raise DelitError(told) from error
    return tuple(tensors)


def _bytes(shard: Path, member: Member) -> bytes:
    try:
        with open(shard, "rb") as file:
            file.seek(member.offset)
            content = file.read(member.size)
    except OSError as error:
        raise DelitError(f"{shard} cannot be read: {error.strerror or error}. Is it still there?") from error
    if len(content) < member.size:
        raise DelitError(
            f"{shard} ends in the middle of a file: it was cut short. Copy it again, or make the shards anew."
        )
    return content
