"""Read and write Wan VAE weights.

Any of these is read, from `.safetensors` or PyTorch's `.pth`: the original Wan layout (also ComfyUI's), the
diffusers layout, and either inside a larger checkpoint. Written is the original layout, as `.safetensors`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint_layouts import FoundVAE, describe_other_file, find_wan_vae, refuse_other_kinds
from .errors import CheckpointError, DelitError
from .presence import is_file, is_folder
from .tensor_files import TensorFile, open_tensor_file, read_metadata, write_tensors
from .wan_vae import WanVAE, WanVAEConfig

__all__ = ["load_wan_vae", "read_metadata", "save_wan_vae"]

logger = logging.getLogger(__name__)

DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"
EXAMPLES = 3


def load_wan_vae(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> WanVAE:
    """Load a Wan 2.1 VAE of any width, reading only its own tensors, ready for inference.

    Args:
        path: a `.safetensors`, `.pth`, `.pt` or `.ckpt` file, or a diffusers folder that holds one.
        device: where the weights go.
        dtype: what they are converted to.

    Returns:
        The VAE in evaluation mode with frozen parameters (call `requires_grad_(True)` to train it).

    Raises:
        CheckpointError: a file that is missing, damaged, of another kind, or with tensors that are missing,
            unexpected or of another shape. The message says which, and what to use instead.
    """
    with open_tensor_file(_file_at(Path(path))) as file:
        found = _find(file)
        vae = _empty_vae(file, found)
        _check_tensors(file, found, vae)
        vae.to_empty(device=device).to(dtype)
        _fill(vae, file, found)
    logger.info(
        "Wan VAE of width %d from %s (%s layout, prefix %r)", vae.config.dim, path, found.layout, found.prefix
    )
    return vae.eval().requires_grad_(False)


def save_wan_vae(
    path: str | Path, vae: WanVAE, dtype: torch.dtype, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a VAE as `.safetensors` in the original Wan layout, whole or not at all.

    Args:
        path: the file; its folder is made if need be. An older file of that name is replaced.
        vae: the VAE, on any device.
        dtype: what the weights are stored as.
        metadata: strings by name, stored in the file; `read_metadata` gives them back.

    Raises:
        DelitError: a name that does not end in .safetensors, metadata that are not strings, or a file that
            cannot be written.
    """
    if Path(path).suffix != ".safetensors":
        raise DelitError(
            f"The VAE is written as .safetensors, but the file is named {path}. Change its ending."
        )
    for name, value in (metadata or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise DelitError(
                f"Metadata must be strings, but {name!r} is {value!r}. Convert it, with JSON if need be."
            )
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=dtype).contiguous()
        for name, tensor in vae.state_dict().items()
    }
    write_tensors(path, tensors, metadata)


def _file_at(path: Path) -> Path:
    """The file itself, or diffusers' file in a folder."""
    if not is_folder(path):
        return path
    for candidate in (path / DIFFUSERS_FILE, path / "vae" / DIFFUSERS_FILE):
        if is_file(candidate):
            return candidate
    files = sorted(entry.name for entry in path.iterdir() if entry.suffix in {".safetensors", ".pth", ".pt"})
    there = (
        f"It holds {', '.join(files[:EXAMPLES])}: give one of them." if files else "Give the weights file."
    )
    raise CheckpointError(f"{path} is a folder without a {DIFFUSERS_FILE}. {there}")


def _find(file: TensorFile) -> FoundVAE:
    refusal = refuse_other_kinds(file.shapes, file.metadata)
    if refusal is not None:
        raise CheckpointError(f"{file.path} does not hold a Wan 2.1 VAE: {refusal}.")
    with torch.device("meta"):
        names = WanVAE(WanVAEConfig(dim=8)).state_dict().keys()
    found = find_wan_vae(file.shapes, names)
    if found is None:
        raise CheckpointError(f"{file.path} does not hold a Wan 2.1 VAE: {describe_other_file(file.shapes)}.")
    return found


def _empty_vae(file: TensorFile, found: FoundVAE) -> WanVAE:
    """A VAE without memory for its weights, of the widths that the file's tensors have."""
    sizes = {name: file.shapes.get(found.names[name]) for name in ("encoder.conv1.weight", "conv2.weight")}
    for name, size in sizes.items():
        if size is None:
            raise CheckpointError(_misfit(file, found, [_told("missing", [found.names[name]])]))
        if len(size) != 5 or 0 in size:
            raise CheckpointError(
                f"{file.path} does not hold a Wan 2.1 VAE: {found.names[name]} has shape {list(size)}, "
                "not that of a 3-D convolution. Use wan_2.1_vae.safetensors."
            )
    (dim, channels), z_dim = sizes["encoder.conv1.weight"][:2], sizes["conv2.weight"][0]
    with torch.device("meta"):
        return WanVAE(WanVAEConfig(dim=dim, z_dim=z_dim, channels=channels))


def _check_tensors(file: TensorFile, found: FoundVAE, vae: WanVAE) -> None:
    """Raise CheckpointError naming what is missing, unexpected or of another shape."""
    missing, misshapen = [], []
    for name, expected in vae.state_dict().items():
        actual = file.shapes.get(found.names[name])
        if actual is None:
            missing.append(found.names[name])
        elif actual != tuple(expected.shape):
            misshapen.append(f"{found.names[name]} is {list(actual)} instead of {list(expected.shape)}")
    problems = [
        _told("missing", missing),
        _told("unexpected", found.unexpected),
        _told("of another shape", misshapen),
    ]
    if any(problems):
        raise CheckpointError(_misfit(file, found, [problem for problem in problems if problem]))


def _told(kind: str, names: list[str] | tuple[str, ...]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > EXAMPLES else ""
    return f"{len(names)} {kind} ({', '.join(names[:EXAMPLES])}{more})"


def _misfit(file: TensorFile, found: FoundVAE, problems: list[str]) -> str:
    where = f"{found.layout} layout" + (f" under {found.prefix!r}" if found.prefix else "")
    return (
        f"{file.path} holds a VAE like Wan 2.1's ({where}), but its tensors do not fit: "
        f"{'; '.join(problems)}. "
        "The file is incomplete or of a variant that Delit does not know: use wan_2.1_vae.safetensors."
    )


@torch.no_grad()
def _fill(vae: WanVAE, file: TensorFile, found: FoundVAE) -> None:
    """Copy the weights in one by one, so that no second copy of them all is in memory."""
    for name, parameter in vae.state_dict().items():
        tensor: Tensor = file.read(found.names[name])
        if not torch.isfinite(tensor.float()).all():
            raise CheckpointError(
                f"{file.path}: {found.names[name]} has values that are not finite. The file is damaged: "
                "fetch or export it again."
            )
        parameter.copy_(tensor)
