"""The files of a latent cache: its rows in chunks, each a `.safetensors` file that is complete in itself.

A chunk holds z, z_flat [rows, 16, h, w] and mask [rows, 1, h, w] as half floats; target [rows, 3, 8h, 8w] as bytes
where it was asked for; and, for the light of every row, env [lights, 3, 128, 256] as half floats with lights, gains and
mirrored (`training.augment.variants.Variant`), whose numbers count the chunk's own maps. Rows are read from the file as
they are asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from delit_models.env_codec import MAX_RADIANCE, encode_env
from delit_models.errors import DelitError
from delit_models.tensor_files import write_tensors

from .batches import LatentPair

# What a row's numbers of lights and their gains weigh is nothing beside its latents: these are read as a whole.
_SMALL = ("lights", "gains", "mirrored")


@dataclass(frozen=True)
class ChunkLayout:
    """Where the rows of a cache are. A pair's variants follow one another, and lie in one chunk.

    Attributes:
        pairs, variants: of each pair so many variants are rows.
        chunk_pairs: pairs in every chunk but the last, which may have fewer.
    """

    pairs: int
    variants: int
    chunk_pairs: int

    @property
    def rows(self) -> int:
        return self.pairs * self.variants

    @property
    def chunks(self) -> int:
        return -(-self.pairs // self.chunk_pairs)

    def pairs_of(self, chunk: int) -> range:
        """The numbers of a chunk's pairs."""
        return range(chunk * self.chunk_pairs, min(self.pairs, (chunk + 1) * self.chunk_pairs))

    def rows_of(self, chunk: int) -> range:
        """The numbers of a chunk's rows."""
        pairs = self.pairs_of(chunk)
        return range(pairs.start * self.variants, pairs.stop * self.variants)


def chunk_file(folder: Path, number: int) -> Path:
    """What a chunk is called."""
    return folder / f"chunk-{number:06d}.safetensors"


def write_chunk(file: Path, rows: Sequence[Mapping[str, Tensor]], envs: Mapping[int, Tensor]) -> None:
    """Write a chunk, whole or not at all.

    Args:
        rows: z, z_flat, mask, perhaps target, lights, gains and mirrored of each row.
        envs: radiance [3, 128, 256] of every pair whose light a row of the chunk has, by the pair's number.

    Raises:
        DelitError: if it cannot be written, as on a full disk.
    """
    tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    numbers = sorted(envs)
    tensors["lights"] = torch.searchsorted(torch.tensor(numbers), tensors["lights"])
    tensors["env"] = torch.stack([envs[number].half() for number in numbers])
    try:
        write_tensors(file, tensors)
    except DelitError as error:
        raise DelitError(f"{error} What was encoded before is kept: the same command goes on.") from error


class LatentChunk:
    """The rows of one chunk. Raises DelitError for a file that is not there or damaged."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: Any = safe_open(path, framework="pt")
            self._small = {name: self._file.get_tensor(name) for name in _SMALL}
            self._has_target = "target" in self._file.keys()  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise DelitError(
                f"{path} cannot be read ({error}). Remove it: the same command encodes its pairs again."
            ) from error

    def row(self, number: int) -> LatentPair:
        """A row by its number in the chunk."""
        latents = (self._one(name, number).float() for name in ("z", "z_flat", "mask"))
        code = encode_env(self._env(number).clamp(max=MAX_RADIANCE)[None])[0]
        return LatentPair(*latents, code, self._one("target", number) if self._has_target else None)

    def _env(self, number: int) -> Tensor:
        """The light of a row, radiance [3, 128, 256]."""
        lights, gains, mirrored = (self._small[name][number] for name in _SMALL)
        used = gains.any(dim=-1).nonzero()[:, 0].tolist()
        env = sum(
            gains[place][:, None, None] * self._one("env", int(lights[place])).float() for place in used
        )
        return env.flip(-1) if mirrored else env

    def _one(self, name: str, number: int) -> Tensor:
        return self._file.get_slice(name)[number : number + 1][0]


class OpenChunks:
    """The chunks of a folder, of which those used last stay open."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        self._open: OrderedDict[int, LatentChunk] = OrderedDict()

    def __getitem__(self, number: int) -> LatentChunk:
        if number not in self._open:
            self._open[number] = LatentChunk(chunk_file(self.folder, number))
            if len(self._open) > self.most:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        """Other processes open files of their own."""
        return {"folder": self.folder, "most": self.most, "_open": OrderedDict()}
