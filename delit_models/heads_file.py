"""Heads files: one `.safetensors` with the heads' tensors and, in its metadata, all that is known of them.

The metadata key `delit` holds JSON: format version, the DelitConfig, the name of the VAE the heads were trained
with, licence, how they were trained and their held-out metrics. The tensor `vae_probe` is the latent of a small
test card under that VAE; it tells heads of another VAE apart before they make a wrong picture. Tensors under
`decoder_lora.` are the LoRA that the VAE's decoder is to have for the flat-lit picture, where there is one
(decoder_lora says how they are named); they are stored in float32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .decoder_lora import DecoderLora
from .errors import CheckpointError, DelitError
from .heads import DelitConfig, DelitHeads
from .json_text import parse_json
from .presence import is_file
from .tensor_files import write_tensors

# 2: a matte, and light read off the extractor's middle. 3: a LoRA for the VAE's decoder. Older files are read as what
# they are; a file without a LoRA is written as format 2, so that an older Delit reads it.
FORMAT_VERSION = 3
WITHOUT_LORA = 2
METADATA_KEY = "delit"
PROBE_KEY = "vae_probe"
LORA_PREFIX = "decoder_lora."
TEST_CARD_SIZE = 64
# bf16 moves a latent by about 1%; another VAE of the same layout moves it by 100%.
PROBE_TOLERANCE = 0.05


@dataclass(frozen=True)
class HeadsInfo:
    """What a heads file says of itself, besides its configuration.

    `training` and `metrics` are free-form: how the heads were made, and how well they do on held-out data.
    """

    name: str
    vae_name: str
    licence: str
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedHeads:
    """Heads ready to run, with their file's description and its SHA-256 (hexadecimal).

    `lora`, where there is one, belongs on the VAE's decoder when it decodes flat-lit latents.
    """

    heads: DelitHeads
    info: HeadsInfo
    vae_probe: Tensor
    sha256: str
    lora: DecoderLora | None = None

    @property
    def config(self) -> DelitConfig:
        return self.heads.config


def test_card() -> Tensor:
    """The probe's picture, [1, 3, 64, 64] in [-1, 1]: ramps, colour bars, fine and coarse checks."""
    ramp = torch.linspace(-1, 1, TEST_CARD_SIZE)
    quarter = TEST_CARD_SIZE // 4
    index = torch.arange(TEST_CARD_SIZE)
    across = repeat(ramp, "w -> h w", h=TEST_CARD_SIZE)
    down = rearrange(across, "h w -> w h")
    bars = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 1]], dtype=torch.float32) * 1.6 - 0.8
    card = torch.stack((across, down, -across))
    card[:, :quarter] = repeat(bars, "c bar -> c h (bar w)", h=quarter, w=quarter)
    for row, cell in ((2 * quarter, 1), (3 * quarter, 8)):
        checks = ((index[:quarter, None] // cell + index[None, :] // cell) % 2).float() * 1.2 - 0.6
        card[:, row : row + quarter] = checks
    return card[None]


def verify_vae_probe(encode: Callable[[Tensor], Tensor], loaded: LoadedHeads, vae_name: str) -> None:
    """Refuse heads that were trained on another VAE's latents.

    Args:
        encode: stills [1, 3, 64, 64] in [-1, 1] → latent, by the VAE about to be used.
        loaded: the heads, with the latent that their own VAE gave.
        vae_name: what to call the VAE in the message.

    Raises:
        DelitError: if the two latents of the test card differ by more than 5% (relative L2 error).
    """
    probe = loaded.vae_probe.float()
    latent = encode(test_card()).detach().float().cpu()
    if latent.shape != probe.shape:
        difference = f"its test-card latent has shape {tuple(latent.shape)}, not {tuple(probe.shape)}"
    else:
        error = (latent - probe).norm() / probe.norm()
        if error <= PROBE_TOLERANCE:
            return
        difference = (
            f"its test-card latent is off by {100 * error:.0f}% (at most {100 * PROBE_TOLERANCE:.0f}%)"
        )
    raise DelitError(
        f"The heads “{loaded.info.name}” were trained with the VAE “{loaded.info.vae_name}” and do not fit the VAE "
        f"“{vae_name}”: {difference}. Load the VAE they name, or heads trained for this one "
        "(python -m training.train_delit_wan makes them)."
    )


def save_heads(
    path: str | Path,
    heads: DelitHeads,
    vae_probe: Tensor,
    info: HeadsInfo,
    dtype: torch.dtype = torch.float32,
    lora: DecoderLora | None = None,
) -> None:
    """Write heads to a `.safetensors` file in `dtype`, whole or not at all; with the LoRA that they were trained with.

    Raises DelitError if it cannot be written.
    """
    tensors = {
        name: tensor.detach().to(dtype).contiguous().cpu() for name, tensor in heads.state_dict().items()
    }
    tensors[PROBE_KEY] = vae_probe.detach().float().contiguous().cpu()
    if lora is not None:
        factors = lora.tensors().items()
        tensors |= {
            LORA_PREFIX + name: factor.detach().float().contiguous().cpu() for name, factor in factors
        }
    description = {
        "format_version": WITHOUT_LORA if lora is None else FORMAT_VERSION,
        "config": heads.config.to_dict(),
        "name": info.name,
        "vae_name": info.vae_name,
        "licence": info.licence,
        "training": dict(info.training),
        "metrics": dict(info.metrics),
    }
    write_tensors(path, tensors, {METADATA_KEY: json.dumps(description)})


def load_heads(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    operations: Any = nn,
) -> LoadedHeads:
    """Read heads from a file made by `save_heads`.

    Raises:
        CheckpointError: if the file is missing, damaged, no heads file, of a newer format, or if its tensors
            are not those that its configuration asks for.
    """
    path = Path(path)
    description, tensors = _read(path)
    try:
        config = DelitConfig.from_dict(description["config"])
        info = _info(description)
    except (KeyError, TypeError, DelitError) as error:
        raise CheckpointError(
            f"{path} describes its heads in a way this Delit cannot read: {error}"
        ) from error
    if PROBE_KEY not in tensors:
        raise CheckpointError(
            f"{path} holds no VAE probe, so nothing says which VAE it belongs to. Export it again."
        )
    probe = tensors.pop(PROBE_KEY)
    lora_names = {name for name in tensors if name.startswith(LORA_PREFIX)}
    with torch.device("meta"):
        planned = DelitHeads(config)
    # Before memory is taken: the file may describe larger heads than it holds.
    _check_tensors(path, planned, tensors, lora_names)
    lora = _lora(path, {name.removeprefix(LORA_PREFIX): tensors.pop(name) for name in lora_names})
    heads = DelitHeads(config, operations)
    heads.load_state_dict(tensors)
    heads.eval().requires_grad_(False)
    return LoadedHeads(heads.to(device=device, dtype=dtype), info, probe, _sha256(path), lora)


def _info(description: Mapping[str, Any]) -> HeadsInfo:
    """What a description says besides the configuration. Raises DelitError for another kind of value."""
    texts = {name: description[name] for name in ("name", "vae_name", "licence")}
    notes = {name: description.get(name, {}) for name in ("training", "metrics")}
    for values, kind in ((texts, str), (notes, dict)):
        for name, value in values.items():
            if not isinstance(value, kind):
                raise DelitError(
                    f"“{name}” is {str(value)[:60]!r}, which is no {'text' if kind is str else 'object'}"
                )
    return HeadsInfo(**texts, **notes)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not is_file(path):
        raise CheckpointError(f"There is no heads file at {path}. Check the name, or train heads first.")
    try:
        with safe_open(path, framework="pt") as file:
            description = _description(path, file.metadata() or {}, list(file.keys()))
            return description, {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a readable .safetensors file ({error}). It may be cut short by an interrupted "
            "download, or be another kind of file under that name: fetch it again."
        ) from error


def _description(path: Path, metadata: Mapping[str, str], names: list[str]) -> dict[str, Any]:
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path} is not a Delit heads file: {_looks_like(names)}")
    try:
        description = parse_json(metadata[METADATA_KEY])
        version = int(description["format_version"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} has a damaged description ({error}): fetch or export it again."
        ) from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has heads of format {version}, newer than the {FORMAT_VERSION} that this Delit reads: "
            "update the pack."
        )
    return description


def _looks_like(names: list[str]) -> str:
    if any(name.startswith(("decoder.", "vae.decoder.", "first_stage_model.")) for name in names):
        return "it looks like a VAE. Load it with Delit's “Load Wan VAE” node or ComfyUI's own VAE loader."
    if any(".blocks." in name or name.startswith(("blocks.", "model.")) for name in names):
        return "it looks like a diffusion model, which Delit does not use. Choose a heads file instead."
    return (
        f"it lacks the description that such a file carries (first tensors: {', '.join(names[:3]) or 'none'}). "
        "Choose a file made by python -m training.train_delit_wan."
    )


def _lora(path: Path, factors: Mapping[str, Tensor]) -> DecoderLora | None:
    try:
        return DecoderLora.from_tensors(factors) if factors else None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check_tensors(
    path: Path, heads: DelitHeads, tensors: Mapping[str, Tensor], lora_names: Set[str]
) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in heads.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name not in lora_names}
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": sorted(n for n in expected.keys() & found.keys() if expected[n] != found[n]),
        "not finite": sorted(n for n, tensor in tensors.items() if not torch.isfinite(tensor).all()),
    }
    if any(problems.values()):
        told = "; ".join(f"{kind}: {', '.join(names[:4])}" for kind, names in problems.items() if names)
        raise CheckpointError(f"{path} does not hold the heads that it describes ({told}). Export it again.")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
