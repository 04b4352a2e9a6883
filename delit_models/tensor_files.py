"""Open a weights file and read single tensors from it: `.safetensors` or PyTorch's `.pth`, `.pt`, `.ckpt`; write one.

The kind of file is told by its first bytes, not by its name. Nothing but the names and shapes is read until a
tensor is asked for, and nothing but tensors is ever unpickled.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .atomic_write import atomic_write
from .errors import CheckpointError
from .json_text import parse_json
from .presence import is_folder, is_there

LARGEST_HEADER = 30_000_000  # bytes; a safetensors header of a big model takes well under 1 MB
ALWAYS_UNPACKED = 64_000_000  # bytes that a zipped file may unpack to, however small it is
MOST_GROWTH = 4  # and this many times its size: weights hardly compress
DEEPEST = 16  # dictionaries in one another; a checkpoint has two or three


class _TensorSource(Protocol):
    def get_tensor(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class TensorFile:
    """An open weights file.

    Attributes:
        path: where it is.
        shapes: name -> shape of every tensor in it.
        metadata: the safetensors metadata; empty for PyTorch files.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    source: _TensorSource

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU; the others stay on the disk."""
        return self.source.get_tensor(name)


@contextmanager
def open_tensor_file(path: str | Path) -> Iterator[TensorFile]:
    """Open a weights file for reading single tensors.

    Raises:
        CheckpointError: a file that is missing, empty, cut short, no weights file, or a pickle that holds
            more than tensors. The message says which, and what to do.
    """
    path = Path(path)
    first_bytes = _first_bytes(path)
    is_zip = first_bytes[:2] == b"PK"
    is_pickle = first_bytes[:1] == b"\x80" and first_bytes[1:2] <= b"\x05"
    if is_zip or is_pickle:
        tensors = _load_pytorch(path, is_zip)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        yield TensorFile(path, shapes, {}, _LoadedTensors(tensors))
        return
    header = _safetensors_header(path, first_bytes)
    metadata = header.pop("__metadata__", {})
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    try:
        with safe_open(path, framework="pt") as source:
            yield TensorFile(path, shapes, metadata, source)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a .safetensors file ({error}). Fetch or export it again."
        ) from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a .safetensors file (strings by name), {} if it has none or is a PyTorch file.

    Raises:
        CheckpointError: if the file is no readable weights file.
    """
    with open_tensor_file(path) as file:
        return dict(file.metadata)


class _LoadedTensors:
    """Tensors of a PyTorch file, mapped into memory where the file allows it."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def get_tensor(self, name: str) -> Tensor:
        return self._tensors[name]


def write_tensors(
    path: str | Path, tensors: dict[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a `.safetensors` file, whole or not at all. Raises DelitError where it cannot be written.

    Its bytes are made first: safetensors' own writing puts them under one more hidden name beside the one it is given,
    which a killed process leaves behind and nobody knows to remove.
    """
    content = save(tensors, dict(metadata or {}) or None)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _first_bytes(path: Path) -> bytes:
    if is_folder(path):
        raise CheckpointError(f"{path} is a folder, not a weights file. Give the file in it.")
    if not is_there(path):
        raise CheckpointError(f"There is no file {path}. Check the name and the folder.")
    try:
        with path.open("rb") as file:
            first_bytes = file.read(64)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}. Check its permissions."
        ) from error
    if not first_bytes:
        raise CheckpointError(f"{path} is empty (0 bytes). Its download or export failed: fetch it again.")
    return first_bytes


def _safetensors_header(path: Path, first_bytes: bytes) -> dict[str, Any]:
    """The parsed JSON header, checked against the size of the file."""
    size = path.stat().st_size
    length = struct.unpack("<Q", first_bytes[:8])[0] if len(first_bytes) >= 8 else 0
    if first_bytes[8:9] != b"{" or not 2 <= length <= LARGEST_HEADER:
        raise CheckpointError(f"{path} is not a weights file: it looks like {_looks_like(first_bytes)}")
    if 8 + length > size:
        raise CheckpointError(
            f"{path} is cut short: it has {size:,} bytes, its header alone needs {8 + length:,}. "
            "Fetch it again."
        )
    try:
        with path.open("rb") as file:
            header = parse_json(file.read(8 + length)[8:], LARGEST_HEADER)
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        needed = 8 + length + max((entry["data_offsets"][1] for entry in entries), default=0)
        complete = all("shape" in entry for entry in entries)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{path} has a damaged .safetensors header. Fetch or export it again."
        ) from error
    if not complete:
        raise CheckpointError(f"{path} has a damaged .safetensors header. Fetch or export it again.")
    if needed > size:
        raise CheckpointError(
            f"{path} is cut short: it has {size:,} of {needed:,} bytes. "
            "Its download or copy was interrupted: fetch it again."
        )
    return header


def _looks_like(first_bytes: bytes) -> str:
    """What a file that is no weights file seems to be, and the remedy; ends the sentence."""
    start = first_bytes.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return (
            "a Git LFS pointer, a note that stands for the real file. Fetch the file itself (git lfs pull)."
        )
    if start.startswith((b"<!doctype", b"<html")):
        return "a web page saved under that name. Download the file itself, not the page about it."
    if first_bytes.startswith(b"GGUF"):
        return "a GGUF file, which holds diffusion or language models. Use the VAE's .safetensors file."
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in first_bytes):
        return "a text file. Choose a .safetensors or .pth file with weights."
    return "another kind of file, or a damaged one. Choose a .safetensors or .pth file with weights."


def _load_pytorch(path: Path, is_zip: bool) -> dict[str, Tensor]:
    """All tensors of a PyTorch file by dotted name; of a zip file (PyTorch 1.6 on) only mapped, not read."""
    if is_zip:
        _check_zip(path)
    try:
        if is_zip and path.suffix != ".safetensors":
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        else:
            # Not by path: torch.load would go by the name and take the file for a safetensors one.
            with path.open("rb") as file:
                content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if is_zip or "weights_only" in str(error) or "Weights only" in str(error):
            raise CheckpointError(
                f"{path} holds Python objects besides tensors, which could run code when opened, so it was "
                "not opened. Use a .safetensors file, or a .pth file with a plain state dict."
            ) from error
        raise CheckpointError(_damaged_pytorch(path)) from error
    except Exception as error:
        # Damaged bytes reach any part of unpickling, which fails in any way it likes.
        raise CheckpointError(_damaged_pytorch(path)) from error
    tensors = dict(_named_tensors(content, ""))
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors. Choose a file with a state dict.")
    return tensors


def _check_zip(path: Path) -> None:
    """Refuse a zip file whose parts grow far beyond it: PyTorch stores tensors as they are."""
    try:
        with zipfile.ZipFile(path) as parts:
            grown = sum(part.file_size for part in parts.infolist())
    except Exception as error:
        raise CheckpointError(_damaged_pytorch(path)) from error
    size = path.stat().st_size
    if grown > ALWAYS_UNPACKED + MOST_GROWTH * size:
        raise CheckpointError(
            f"{path} has {size:,} bytes that unpack to {grown:,}: PyTorch writes no such file. Fetch it again from a "
            "source that you trust."
        )


def _damaged_pytorch(path: Path) -> str:
    return (
        f"{path} starts like a PyTorch file but cannot be read: it is cut short or damaged "
        f"({path.stat().st_size:,} bytes). Its download or copy was interrupted: fetch it again."
    )


def _named_tensors(content: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dicts ({"state_dict": {...}}) by dotted name. A dict may hold itself: not without an end."""
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping) and depth < DEEPEST:
        for name, value in content.items():
            yield from _named_tensors(value, f"{prefix}.{name}" if prefix else str(name), depth + 1)
