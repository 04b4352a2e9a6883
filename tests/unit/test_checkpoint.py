"""Wan VAE weights are read from every layout, written whole, and only their own tensors are read."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from delit_models.checkpoint import load_wan_vae, read_metadata, save_wan_vae
from delit_models.checkpoint_layouts import diffusers_name
from delit_models.errors import DelitError
from delit_models.wan_vae import WanVAE, WanVAEConfig
from tests.unit.wan_vae_samples import random_clip, random_vae

REPOSITORY = Path(__file__).resolve().parents[2]
VAE = random_vae(8)


def contiguous(vae: WanVAE) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in vae.state_dict().items()}


def in_layout(layout: str, prefix: str = "") -> dict[str, Tensor]:
    rename = diffusers_name if layout == "diffusers" else str
    return {prefix + rename(name): tensor for name, tensor in contiguous(VAE).items()}


def assert_same_weights(loaded: WanVAE, expected: WanVAE = VAE) -> None:
    for (name, actual), wanted in zip(
        loaded.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        assert torch.equal(actual, wanted), name


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("layout", ["original", "diffusers"])
@pytest.mark.parametrize("prefix", ["", "vae.", "first_stage_model.", "model.", "pipe.module.vae."])
def test_every_layout_is_read(tmp_path: Path, layout: str, prefix: str, suffix: str) -> None:
    tensors = in_layout(layout, prefix)
    if prefix:
        tensors["model.diffusion_model.blocks.0.self_attn.q.weight"] = torch.zeros(4, 4)
    path = tmp_path / f"weights{suffix}"
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    loaded = load_wan_vae(path)
    assert_same_weights(loaded)
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("wrapping", ["state_dict", "model"])
def test_nested_and_old_pytorch_files_are_read(tmp_path: Path, wrapping: str) -> None:
    torch.save({wrapping: in_layout("original"), "step": 3}, tmp_path / "new.pth")
    assert_same_weights(load_wan_vae(tmp_path / "new.pth"))
    torch.save(in_layout("original"), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same_weights(load_wan_vae(tmp_path / "old.pth"))


def test_a_folder_that_diffusers_saved_is_read(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (pip install delit[dev])")
    theirs = diffusers.AutoencoderKLWan(base_dim=8, z_dim=16).eval()
    theirs.save_pretrained(tmp_path / "pipeline" / "vae")
    clip = random_clip(5, 16, 16)
    expected = theirs.encode(clip).latent_dist.mean
    folder = tmp_path / "pipeline"
    for path in (folder, folder / "vae", folder / "vae" / "diffusion_pytorch_model.safetensors"):
        torch.testing.assert_close(load_wan_vae(path).encode(clip), expected, rtol=1e-4, atol=1e-5)


def test_diffusers_reads_the_single_file_that_is_written(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (pip install delit[dev])")
    diffusers.AutoencoderKLWan(base_dim=8, z_dim=16).save_config(tmp_path)
    save_wan_vae(tmp_path / "vae.safetensors", VAE, torch.float32)
    theirs = diffusers.AutoencoderKLWan.from_single_file(
        str(tmp_path / "vae.safetensors"), config=str(tmp_path)
    )
    clip = random_clip(5, 16, 16)
    torch.testing.assert_close(VAE.encode(clip), theirs.encode(clip).latent_dist.mean, rtol=1e-4, atol=1e-5)


def test_widths_and_dtype(tmp_path: Path) -> None:
    wide = random_vae(16, z_dim=4, channels=1)
    save_wan_vae(tmp_path / "vae.safetensors", wide, torch.bfloat16, {"delit.note": "narrow"})
    loaded = load_wan_vae(tmp_path / "vae.safetensors", dtype=torch.bfloat16)
    assert loaded.config == WanVAEConfig(dim=16, z_dim=4, channels=1)
    assert_same_weights(loaded, wide.bfloat16())
    assert read_metadata(tmp_path / "vae.safetensors") == {"delit.note": "narrow"}


def test_loaded_weights_can_be_trained(tmp_path: Path) -> None:
    save_wan_vae(tmp_path / "vae.safetensors", VAE, torch.float32)
    vae = load_wan_vae(tmp_path / "vae.safetensors").requires_grad_(True)
    vae.encode(random_clip(1, 16, 16)).sum().backward()
    assert vae.encoder.conv1.weight.grad is not None


def test_of_two_vaes_the_plain_weights_are_taken(tmp_path: Path) -> None:
    average = {f"vae_ema.{name}": torch.zeros_like(tensor) for name, tensor in contiguous(VAE).items()}
    save_file({**average, **in_layout("original", "vae.")}, tmp_path / "both.safetensors")
    assert_same_weights(load_wan_vae(tmp_path / "both.safetensors"))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    save_wan_vae(path, VAE, torch.float32)
    before = path.read_bytes()
    with pytest.raises(DelitError, match="Metadata must be strings"):
        save_wan_vae(path, VAE, torch.float32, {"step": 3})  # type: ignore[dict-item]
    with pytest.raises(DelitError, match="ending"):
        save_wan_vae(tmp_path / "vae.pth", VAE, torch.float32)
    with pytest.raises(DelitError, match="folder"):
        (tmp_path / "folder.safetensors").mkdir()
        save_wan_vae(tmp_path / "folder.safetensors", VAE, torch.float32)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.safetensors", "vae.safetensors"]


PEAK_MEMORY = """
import resource, sys
from delit_models.checkpoint import load_wan_vae
from tests.unit.wan_vae_samples import random_vae
load_wan_vae(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_wan_vae(sys.argv[2])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def write_sparse_bundle(path: Path, other_bytes: int) -> None:
    """A .safetensors with a diffusion tensor of `other_bytes` (a hole in the file), then the VAE."""
    header: dict[str, dict] = {}
    header["model.diffusion_model.blocks.0.self_attn.q.weight"] = {
        "dtype": "U8",
        "shape": [other_bytes],
        "data_offsets": [0, other_bytes],
    }
    position, contents = other_bytes, []
    for name, tensor in in_layout("original", "vae.").items():
        data = tensor.numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [position, position + len(data)],
        }
        position += len(data)
        contents.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.seek(other_bytes, 1)
        file.write(b"".join(contents))


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_only_the_vae_is_read_from_a_big_bundle(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("resource", reason="peak memory is measured with Unix's getrusage")
    save_wan_vae(tmp_path / "small.safetensors", VAE, torch.float32)
    bundle = tmp_path / f"bundle.{kind}"
    if kind == "safetensors":
        write_sparse_bundle(bundle, 10_000_000_000)
        assert bundle.stat().st_size > 10_000_000_000
    else:
        other = {
            "model.diffusion_model.blocks.0.self_attn.q.weight": torch.zeros(300_000_000, dtype=torch.uint8)
        }
        torch.save({**other, **in_layout("original", "vae.")}, bundle)
    assert_same_weights(load_wan_vae(bundle))
    command = [sys.executable, "-c", PEAK_MEMORY, str(tmp_path / "small.safetensors"), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    bundle.unlink()
    assert int(done.stdout) < 100, f"{done.stdout.strip()} MB more than for the VAE alone"
