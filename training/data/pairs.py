"""Reading a data set folder: the pairs of relit and flat-lit pictures, their masks and environment maps.

The folder's layout is written by `training.generate_toy_dataset`, or by hand for one's own pairs (docs/own_data.md).
`training.data.shards` reads the same pairs from WebDataset shards.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal, Protocol

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from delit_models.color import srgb_to_linear
from delit_models.env_map_files import read_env_map
from delit_models.errors import DelitError
from delit_models.heads import ENV_HEIGHT, ENV_WIDTH
from delit_models.image_files import read_image
from delit_models.images import VAE_STRIDE
from delit_models.lat_long import resample_env
from delit_models.oiio_files import existing_file, read_pixels

from .index import INDEX_FILE, PAIR_FILES, index_lines

Split = Literal["train", "test"]
UNKNOWN = "unknown"
# Files kept as they were read: about 100 MB of pictures of 256 × 256.
_KEPT_FILES = 512
LINEAR_FILE = "relit_linear"
"""The field that names one more, where a data set keeps pictures that are not clipped."""


class Record(Protocol):
    """What is known of a pair without reading its pictures, wherever it is kept."""

    subject: str
    env: str
    tone_group: str
    light_kind: str


@dataclass(frozen=True)
class PairRecord:
    """One line of `index.jsonl`: whose picture, in what light, and where its files are (absolute paths). One's own
    pairs need not say what skin tone and what kind of light they show."""

    subject: str
    env: str
    relit: Path
    flat: Path
    mask: Path
    env_map: Path
    relit_linear: Path | None = None
    tone_group: str = UNKNOWN
    light_kind: str = UNKNOWN


@dataclass(frozen=True)
class Pair:
    """One training example, or a batch of them.

    Attributes:
        relit, flat: [..., 3, H, W] in [0, 1], sRGB-coded. mask: [..., 1, H, W] in [0, 1].
        relit_linear: [..., 3, H, W], the relit picture in linear light before it was clipped; None where a data set
            keeps none.
        env: radiance [..., 3, 128, 256], linear, camera frame, image-referred.
    """

    relit: Tensor
    flat: Tensor
    mask: Tensor
    env: Tensor
    relit_linear: Tensor | None = None

    @property
    def relit_light(self) -> Tensor:
        """The relit picture in linear light, [..., 3, H, W]: unclipped, or what its coded picture tells."""
        return srgb_to_linear(self.relit) if self.relit_linear is None else self.relit_linear


def read_index(data_root: str | Path, split: Split) -> list[PairRecord]:
    """The pairs of one split. Raises DelitError if the folder or its index is missing, damaged or empty."""
    root = Path(data_root)
    records = [_record(root, entry) for entry in read_entries(root) if entry["split"] == split]
    if not records:
        raise DelitError(f"{root / INDEX_FILE} lists no pair of the “{split}” split.")
    return records


def read_entries(data_root: str | Path) -> list[dict]:
    """The lines of `index.jsonl` as they are, of all splits, each with all that a pair needs.

    Raises DelitError if the folder or its index is missing or damaged.
    """
    entries = []
    for line in index_lines(data_root):
        if line.problem:
            index = Path(data_root) / INDEX_FILE
            raise DelitError(f"Line {line.number} of {index} cannot be read: {line.problem}.")
        entries.append(line.entry)
    return entries


def _record(root: Path, entry: dict) -> PairRecord:
    files = {name: root / entry[name] for name in PAIR_FILES}
    if isinstance(entry.get(LINEAR_FILE), str):
        files[LINEAR_FILE] = root / entry[LINEAR_FILE]
    groups = {"tone_group": tone_group(entry), "light_kind": light_kind(entry)}
    return PairRecord(subject=entry["subject"], env=entry["env"], **files, **groups)


def tone_group(entry: dict) -> str:
    """The skin tone that an index line tells of, or "unknown"."""
    return _told(entry, "person", "tone_group")


def light_kind(entry: dict) -> str:
    """The kind of light that an index line tells of, or "unknown"."""
    return _told(entry, "light", "kind")


def _told(entry: dict, what: str, detail: str) -> str:
    told = entry.get(what)
    return str(told.get(detail, UNKNOWN)) if isinstance(told, dict) else UNKNOWN


class Pairs(Dataset[Pair], ABC):
    """The pairs of one split, in a folder or in shards.

    Attributes:
        records: what is known of each pair, in the order of their numbers.
    """

    records: Sequence[Record]

    def __len__(self) -> int:
        return len(self.records)

    def name(self, index: int) -> str:
        """What a pair is called in messages."""
        record = self.records[index]
        return f"{record.subject}/{record.env}"

    @abstractmethod
    def __getitem__(self, index: int) -> Pair: ...

    @abstractmethod
    def light(self, index: int) -> Tensor:
        """The environment map of a pair alone, [3, 128, 256], without reading its pictures."""

    @abstractmethod
    def stamp(self, index: int) -> str:
        """A text that is another one when the pair's files are others."""


class PairDataset(Pairs):
    """The pairs of one split of a folder. The files read last are kept in memory as bytes and half floats: a pair's
    companions and neighbours are asked for soon again, and no data set has to fit."""

    def __init__(self, data_root: str | Path, split: Split) -> None:
        self.records: list[PairRecord] = read_index(data_root, split)
        self._latest: OrderedDict[Path, Tensor] = OrderedDict()

    def __getitem__(self, index: int) -> Pair:
        record = self.records[index]
        pictures = [self._read(read_picture, path) for path in (record.relit, record.flat, record.mask)]
        linear = record.relit_linear and self._read(read_linear, record.relit_linear)
        return unpack_pair(self.name(index), *pictures, self._read(read_light, record.env_map), linear)

    def light(self, index: int) -> Tensor:
        return self._read(read_light, self.records[index].env_map).float()

    def stamp(self, index: int) -> str:
        record = self.records[index]
        files = [getattr(record, name) for name in (*PAIR_FILES, LINEAR_FILE)]
        return " ".join(file_stamp(path) for path in files if path is not None)

    def _read(self, reader: Callable[[Path], Tensor], path: Path) -> Tensor:
        if path not in self._latest:
            self._latest[path] = reader(path)
            if len(self._latest) > _KEPT_FILES:
                self._latest.popitem(last=False)
        self._latest.move_to_end(path)
        return self._latest[path]


class JoinedPairs(Pairs):
    """The pairs of several data sets, one after the other. Subjects of the same name in two of them stay two."""

    def __init__(self, parts: Sequence[Pairs]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(len(part) for part in parts)]
        self.records = [
            replace(record, subject=f"{number}/{record.subject}")
            for number, part in enumerate(parts, start=1)
            for record in part.records
        ]

    def __getitem__(self, index: int) -> Pair:
        part, own = self._find(index)
        return part[own]

    def light(self, index: int) -> Tensor:
        part, own = self._find(index)
        return part.light(own)

    def stamp(self, index: int) -> str:
        part, own = self._find(index)
        return part.stamp(own)

    def _find(self, index: int) -> tuple[Pairs, int]:
        """The data set that holds a pair, and the pair's number there."""
        if not 0 <= index < len(self):
            raise IndexError(f"There is no pair {index} among {len(self)}.")
        part = bisect_right(self._starts, index) - 1
        return self._parts[part], index - self._starts[part]


class SomePairs(Pairs):
    """Some pairs of a data set, by their numbers there."""

    def __init__(self, whole: Pairs, numbers: Sequence[int]) -> None:
        self._whole, self._numbers = whole, numbers
        self.records = [whole.records[number] for number in numbers]

    def __getitem__(self, index: int) -> Pair:
        return self._whole[self._numbers[index]]

    def light(self, index: int) -> Tensor:
        return self._whole.light(self._numbers[index])

    def stamp(self, index: int) -> str:
        return self._whole.stamp(self._numbers[index])


def fingerprint_of(pairs: Pairs) -> str:
    """Changes when any file of any pair does."""
    stamps = "".join(pairs.stamp(number) for number in range(len(pairs)))
    return hashlib.sha256(stamps.encode()).hexdigest()[:16]


def file_stamp(path: Path) -> str:
    """Which file it is, how large and of when. Raises DelitError where there is none."""
    status = existing_file(path).stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def check_size(name: str, picture: Tensor, size: torch.Size) -> None:
    """Raise DelitError for a picture [3, H, W] of another size (H, W) than the first one, or of odd sides."""
    height, width = picture.shape[-2:]
    if (height, width) != tuple(size) or height % VAE_STRIDE or width % VAE_STRIDE:
        raise DelitError(
            f"The pictures of {name} are {width} × {height}, the first pair's {size[1]} × {size[0]}. Training takes "
            f"pictures of one size, whose sides are multiples of {VAE_STRIDE}: scale or crop them. "
            "training.check_dataset names those that differ."
        )


def read_picture(path: Path) -> Tensor:
    """A picture's bytes, [C, H, W]."""
    picture = rearrange(read_image(path), "h w c -> c h w")
    return (picture * 255).round().to(torch.uint8)


def read_light(path: Path) -> Tensor:
    """A map of any size as half floats [3, 128, 256]."""
    radiance = resample_env(read_env_map(path).radiance, ENV_HEIGHT, ENV_WIDTH)
    return rearrange(radiance, "h w c -> c h w").half()


def read_linear(path: Path) -> Tensor:
    """A picture in linear light that may exceed 1, as half floats [3, H, W]."""
    pixels = read_pixels(existing_file(path)).pixels
    if pixels.shape[-1] != 3:
        raise DelitError(f"{path} has {pixels.shape[-1]} channels; a picture in linear light has R, G, B.")
    return rearrange(torch.from_numpy(pixels), "h w c -> c h w").half()


def unpack_pair(
    name: str, relit: Tensor, flat: Tensor, mask: Tensor, light: Tensor, linear: Tensor | None = None
) -> Pair:
    """A pair from what `read_picture`, `read_light` and `read_linear` gave; `name` says in a
    DelitError which one does not fit."""
    pictures = {"relit": relit, "flat": flat, "mask": mask} | (
        {} if linear is None else {LINEAR_FILE: linear}
    )
    sizes = {key: tuple(x.shape[-2:]) for key, x in pictures.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{key} {width} × {height}" for key, (height, width) in sizes.items())
        raise DelitError(f"The pictures of {name} differ in size ({told}). Make them equal.")
    if min(relit.shape[0], flat.shape[0]) < 3:
        raise DelitError(f"The relit or the flat-lit picture of {name} is grey. Give both in colour.")
    coded = (relit[:3].float() / 255, flat[:3].float() / 255, mask[:1].float() / 255)
    return Pair(*coded, light.float(), None if linear is None else linear.float())
