"""Weights files: VAEs and heads in .safetensors and .pth, damaged in their bytes, their headers and their JSON."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hypothesis import strategies as st

from delit_models.checkpoint import load_wan_vae, read_metadata, save_wan_vae
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.heads_file import METADATA_KEY, HeadsInfo, load_heads, save_heads
from training.loop.checkpoints import load_checkpoint, save_checkpoint

from .damage import damaged, odd_json, to_json
from .harness import Case, Fault, Kind
from .picture_files import sound

SMALL_HEADS = DelitConfig(
    feature_channels=8,
    extractor_widths=(8, 8, 8),
    flat_width=8,
    env_token_width=8,
    env_query_blocks=1,
    env_context_grid=4,
    env_decoder_widths=(8, 8, 8, 8),
    attention_heads=2,
    working_size=64,
)
IDENTITY = {"width": 8, "data": "abc"}


@lru_cache
def sound_file(kind: str) -> bytes:
    """The bytes of a sound file: "vae", "heads", "pth", "legacy pth" or "checkpoint"."""
    from delit_models.wan_vae import WanVAE, WanVAEConfig

    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        path = Path(folder, "file.safetensors")
        if kind == "heads":
            info = HeadsInfo("fuzzed", "small.safetensors", "none", {"steps": 3}, {"psnr": 20.5})
            save_heads(path, DelitHeads(SMALL_HEADS), torch.ones(1, 16, 8, 8), info)
        elif kind == "checkpoint":
            save_checkpoint(
                Path(folder), IDENTITY, {"trainer": {"step": 3, "weights": torch.ones(4)}, "best": 1.0}
            )
            path = Path(folder, "checkpoint.pt")
        else:
            vae = WanVAE(WanVAEConfig(dim=8))
            save_wan_vae(path, vae, torch.float16, {"name": "fuzzed"})
            if kind != "vae":
                state = {name: tensor.half() for name, tensor in vae.state_dict().items()}
                path = Path(folder, "file.pth")
                torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=kind == "pth")
        return path.read_bytes()


_OBJECTS: dict[str, Callable[[], Any]] = {
    "a list": lambda: [torch.ones(2), torch.zeros(3)],
    "numbers": lambda: {"step": 3, "name": "x", "nothing": None},
    "numbers as names": lambda: {1: torch.ones(2), 2.5: torch.ones(1), None: torch.ones(1)},
    "sparse": lambda: {"encoder.conv1.weight": torch.eye(4).to_sparse()},
    "meta": lambda: {"encoder.conv1.weight": torch.empty(8, 3, 3, 3, 3, device="meta")},
    "complex": lambda: {"encoder.conv1.weight": torch.ones(8, 3, 3, 3, 3, dtype=torch.complex64)},
    "a module": lambda: torch.nn.Linear(2, 2),
    "one tensor": lambda: torch.ones(3),
    "nothing": lambda: {},
    "a number": lambda: 3,
    "itself": lambda: _itself(),
    "deep": lambda: _deep(900),
}


def _itself() -> dict:
    value: dict = {"weights": torch.ones(2)}
    value["again"] = value
    return value


def _deep(depth: int) -> dict:
    value: dict = {"weight": torch.ones(1)}
    for _ in range(depth):
        value = {"a": value}
    return value


def pickled(name: str) -> bytes:
    encoded = io.BytesIO()
    torch.save(_OBJECTS[name](), encoded)
    return encoded.getvalue()


def with_header(content: bytes, header: Any) -> bytes:
    """A .safetensors file with another header."""
    length = struct.unpack("<Q", content[:8])[0]
    text = to_json(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def header_of(content: bytes) -> dict[str, Any]:
    return json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(["vae", "heads", "heads", "pth", "legacy pth", "checkpoint"]))
    content = sound_file(kind)
    how = draw(st.sampled_from(["bytes", "bytes", "header", "description", "description", "objects"]))
    if how == "objects":
        name = draw(st.sampled_from(sorted(_OBJECTS)))
        done, content = f"holding {name}", pickled(name)
    elif how == "bytes" or kind not in ("vae", "heads"):
        done, content = draw(damaged(content))
    elif how == "header" or kind != "heads":
        content, done = with_header(content, draw(odd_json(header_of(content)))), "odd header"
    else:
        header = header_of(content)
        description = draw(odd_json(json.loads(header["__metadata__"][METADATA_KEY])))
        header["__metadata__"][METADATA_KEY] = to_json(description)
        content, done = with_header(content, header), f"odd description {json.dumps(description)[:1200]}"
    own = {"vae": "VAE", "heads": "heads", "checkpoint": "checkpoint"}.get(kind, "VAE")
    reader = draw(st.sampled_from([own, own, *sorted(READERS)]))
    suffix = draw(st.sampled_from([".safetensors", ".safetensors", ".pth", ".ckpt", ""]))
    return Case(
        f"{reader} of {kind}{suffix}, {done}", lambda folder: _read(reader, folder / f"w{suffix}", content)
    )


def _read(reader: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    READERS[reader](path)


def _vae(path: Path) -> None:
    vae = load_wan_vae(path)
    for tensor in vae.state_dict().values():
        sound(tensor, "load_wan_vae")
    if vae.config.dim > 16:
        raise Fault(f"a file of width 8 was read as a VAE of width {vae.config.dim}")


def _heads(path: Path) -> None:
    loaded = load_heads(path)
    loaded.config.to_dict()
    for text in (loaded.info.name, loaded.info.vae_name, loaded.info.licence):
        if not isinstance(text, str):
            raise Fault("load_heads gave a description whose texts are no texts")
    if not isinstance(loaded.config.working_size, int) or not 64 <= loaded.config.working_size <= 8192:
        raise Fault("load_heads gave a working size that nothing can work at")
    out = loaded.heads(torch.zeros(1, 16, 8, 8))
    for tensor in out:
        if tensor.isinf().any() or tensor.isnan().any():
            raise Fault("heads that were read without complaint give values that are not finite")


def _resume(path: Path) -> None:
    path.rename(path.with_name("checkpoint.pt"))
    load_checkpoint(path.parent, IDENTITY)


READERS: dict[str, Callable[[Path], None]] = {
    "VAE": _vae,
    "heads": _heads,
    "metadata": lambda path: None if read_metadata(path) is not None else None,
    "checkpoint": _resume,
}
KIND = Kind("weights files", cases(), 700, 50)
