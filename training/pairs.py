"""Reading a data set folder: the pairs of relit and flat-lit pictures, their masks and environment maps.

The folder's layout is written by `training.generate_toy_dataset`, or by hand for one's own pairs (README).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from delit_models.env_map_files import read_env_map
from delit_models.errors import DelitError
from delit_models.heads import ENV_HEIGHT, ENV_WIDTH
from delit_models.image_files import read_image
from delit_models.lat_long import resample_env

Split = Literal["train", "test"]
UNKNOWN = "unknown"
PAIR_FILES = ("relit", "flat", "mask", "env_map")
"""The fields of an index line that name files."""


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
    tone_group: str = UNKNOWN
    light_kind: str = UNKNOWN


@dataclass(frozen=True)
class Pair:
    """One training example, or a batch of them.

    Attributes:
        relit, flat: [..., 3, H, W] in [0, 1], sRGB-coded. mask: [..., 1, H, W] in [0, 1].
        env: radiance [..., 3, 128, 256], linear, camera frame, image-referred.
    """

    relit: Tensor
    flat: Tensor
    mask: Tensor
    env: Tensor


def read_index(data_root: str | Path, split: Split) -> list[PairRecord]:
    """The pairs of one split. Raises DelitError if the folder or its index is missing, damaged or empty."""
    root = Path(data_root)
    index = root / "index.jsonl"
    if not index.is_file():
        raise DelitError(
            f"{root} is no data set: it has no index.jsonl. Make one with training.generate_toy_dataset."
        )
    records = []
    for number, line in enumerate(index.read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
            if entry["split"] != split:
                continue
            files = {name: root / entry[name] for name in PAIR_FILES}
            groups = {"tone_group": tone_group(entry), "light_kind": light_kind(entry)}
            records.append(PairRecord(subject=entry["subject"], env=entry["env"], **files, **groups))
        except (ValueError, KeyError) as error:
            raise DelitError(
                f"Line {number} of {index} cannot be read ({error!r}). Remove or repair it."
            ) from error
    if not records:
        raise DelitError(f"{index} lists no pair of the “{split}” split.")
    return records


def tone_group(entry: dict) -> str:
    """The skin tone that an index line tells of, or "unknown"."""
    return _told(entry, "person", "tone_group")


def light_kind(entry: dict) -> str:
    """The kind of light that an index line tells of, or "unknown"."""
    return _told(entry, "light", "kind")


def _told(entry: dict, what: str, detail: str) -> str:
    told = entry.get(what)
    return str(told.get(detail, UNKNOWN)) if isinstance(told, dict) else UNKNOWN


class PairDataset(Dataset[Pair]):
    """The pairs of one split, kept in memory as bytes and half floats after they are first read."""

    def __init__(self, data_root: str | Path, split: Split) -> None:
        self.records = read_index(data_root, split)
        self._pictures: dict[Path, Tensor] = {}
        self._maps: dict[Path, Tensor] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Pair:
        record = self.records[index]
        relit, flat, mask = (self._picture(path) for path in (record.relit, record.flat, record.mask))
        if not relit.shape[-2:] == flat.shape[-2:] == mask.shape[-2:]:
            raise DelitError(
                f"{record.relit}, its flat-lit picture and its mask differ in size: {tuple(relit.shape[-2:])}, "
                f"{tuple(flat.shape[-2:])}, {tuple(mask.shape[-2:])}."
            )
        return Pair(relit[:3], flat[:3], mask[:1], self._map(record.env_map))

    def light(self, index: int) -> Tensor:
        """The environment map of a pair alone, [3, 128, 256], without reading its pictures."""
        return self._map(self.records[index].env_map)

    def _picture(self, path: Path) -> Tensor:
        if path not in self._pictures:
            picture = rearrange(read_image(path), "h w c -> c h w")
            self._pictures[path] = (picture * 255).round().to(torch.uint8)
        return self._pictures[path].float() / 255

    def _map(self, path: Path) -> Tensor:
        if path not in self._maps:
            radiance = resample_env(read_env_map(path).radiance, ENV_HEIGHT, ENV_WIDTH)
            self._maps[path] = rearrange(radiance, "h w c -> c h w").half()
        return self._maps[path].float()


def collate(pairs: list[Pair]) -> Pair:
    """Stack examples of one size into a batch."""
    return Pair(
        *(torch.stack([getattr(pair, name) for pair in pairs]) for name in ("relit", "flat", "mask", "env"))
    )
