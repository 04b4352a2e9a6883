"""Each file that is no Wan 2.1 VAE is refused with the reason and the remedy; and the command line says so."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from delit_models.checkpoint import load_wan_vae, save_wan_vae
from delit_models.errors import CheckpointError
from tests.unit.wan_vae_samples import random_vae

REPOSITORY = Path(__file__).resolve().parents[2]
REMEDY = r"(wan_2\.1_vae\.safetensors|[Ff]etch|[Cc]hoose|[Gg]ive|[Dd]ownload|[Cc]heck|[Uu]se)"


def vae_tensors(**changes: Tensor | None) -> dict[str, Tensor]:
    """A small VAE's tensors; a change of None leaves a tensor out."""
    tensors = {name: tensor.contiguous() for name, tensor in random_vae(8).state_dict().items()}
    tensors.update({name: tensor for name, tensor in changes.items() if tensor is not None})
    return {name: tensor for name, tensor in tensors.items() if changes.get(name, tensor) is not None}


def zeros(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


SD_VAE = zeros(
    **{
        "encoder.conv_in.weight": (128, 3, 3, 3),
        "encoder.down.0.block.0.norm1.weight": (128,),
        "decoder.conv_in.weight": (512, 4, 3, 3),
        "quant_conv.weight": (8, 8, 1, 1),
    }
)
SD_DIFFUSERS_VAE = zeros(
    **{"encoder.down_blocks.0.resnets.0.norm1.weight": (128,), "decoder.conv_in.weight": (512, 4, 3, 3)}
)
FLUX_VAE = zeros(**{"encoder.down.0.block.0.norm1.weight": (128,), "decoder.conv_in.weight": (512, 16, 3, 3)})
WAN_5B = zeros(
    **{
        "encoder.downsamples.0.downsamples.0.residual.0.gamma": (8, 1, 1, 1),
        "encoder.middle.0.residual.0.gamma": (8, 1, 1, 1),
        "conv2.weight": (48, 48, 1, 1, 1),
    }
)
WAN_5B_DIFFUSERS = zeros(**{"encoder.down_blocks.0.resnets.0.norm1.gamma": (8, 1, 1, 1)})
DIFFUSION = zeros(**{"blocks.0.self_attn.q.weight": (8, 8), "head.head.weight": (8, 8)})
DIFFUSION_COMFYUI = zeros(**{"model.diffusion_model.input_blocks.0.0.weight": (8, 4, 3, 3)})
TINY_VAE = zeros(**{"encoder.0.weight": (64, 3, 3, 3), "decoder.1.weight": (64, 16, 3, 3)})
LORA = zeros(**{"diffusion_model.blocks.0.self_attn.q.lora_A.weight": (8, 8)})
TEXT_ENCODER = zeros(**{"token_embedding.weight": (8, 8)})
HEADS = zeros(vae_probe=(1, 16, 8, 8), stem=(4, 4))

KINDS = {
    "SD VAE": (SD_VAE, "image VAE with 4 latent channels"),
    "SD VAE of diffusers": (SD_DIFFUSERS_VAE, "image VAE with 4 latent channels"),
    "Flux VAE": (FLUX_VAE, "image VAE with 16 latent channels .*FLUX"),
    "Wan 2.2-5B VAE": (WAN_5B, "Wan 2.2-5B .*48"),
    "Wan 2.2-5B VAE of diffusers": (WAN_5B_DIFFUSERS, "Wan 2.2-5B .*48"),
    "diffusion model": (DIFFUSION, "diffusion model without a VAE"),
    "diffusion model of ComfyUI": (DIFFUSION_COMFYUI, "diffusion model without a VAE"),
    "SD checkpoint": ({**DIFFUSION_COMFYUI, **SD_VAE}, "diffusion model bundled with an image VAE"),
    "tiny VAE": (TINY_VAE, "tiny preview VAE"),
    "LoRA": (LORA, "LoRA"),
    "text encoder": (TEXT_ENCODER, "text or vision encoder"),
    "unknown": (zeros(foo=(1,)), "no known kind .*foo"),
    "no tensors": ({}, "no tensors"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_other_models_are_named(tmp_path: Path, kind: str, suffix: str) -> None:
    tensors, message = KINDS[kind]
    path = tmp_path / f"file{suffix}"
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    with pytest.raises(CheckpointError, match=f"{message}.*{REMEDY}"):
        load_wan_vae(path)


def test_heads_are_no_vae(tmp_path: Path) -> None:
    save_file(HEADS, tmp_path / "heads.safetensors", metadata={"delit": "{}"})
    with pytest.raises(CheckpointError, match="Delit heads file.*give a Wan 2.1 VAE"):
        load_wan_vae(tmp_path / "heads.safetensors")


def test_misfits_are_told_apart(tmp_path: Path) -> None:
    tensors = vae_tensors(
        **{
            "encoder.middle.0.residual.2.weight": None,
            "decoder.conv1.weight": torch.zeros(32, 12, 3, 3, 3),
            "decoder.extra.weight": torch.zeros(1),
        }
    )
    save_file(tensors, tmp_path / "vae.safetensors")
    with pytest.raises(CheckpointError) as refusal:
        load_wan_vae(tmp_path / "vae.safetensors")
    message = str(refusal.value)
    assert "1 missing (encoder.middle.0.residual.2.weight)" in message
    assert "1 unexpected (decoder.extra.weight)" in message
    assert "decoder.conv1.weight is [32, 12, 3, 3, 3] instead of [32, 16, 3, 3, 3]" in message
    assert "use wan_2.1_vae.safetensors" in message


def test_half_a_vae_is_incomplete(tmp_path: Path) -> None:
    decoder = {name: tensor for name, tensor in vae_tensors().items() if not name.startswith("encoder.")}
    save_file(decoder, tmp_path / "decoder.safetensors")
    with pytest.raises(CheckpointError, match=r"missing \(encoder.conv1.weight\)"):
        load_wan_vae(tmp_path / "decoder.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    save_file(vae_tensors(**{"conv1.bias": torch.full((32,), torch.nan)}), tmp_path / "vae.safetensors")
    with pytest.raises(CheckpointError, match=r"conv1\.bias.*not finite.*fetch"):
        load_wan_vae(tmp_path / "vae.safetensors")


class _RunsCode:
    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return Path.touch, (Path("code_was_run"),)


def _write_code(path: Path) -> None:
    torch.save({"encoder.conv1.weight": torch.zeros(1), "other": _RunsCode()}, path)


def _write_plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"other": _RunsCode()}))


def _write_cut(path: Path) -> None:
    save_file(vae_tensors(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def _write_cut_header(path: Path) -> None:
    save_file(vae_tensors(), path)
    path.write_bytes(path.read_bytes()[:500])


def _write_cut_pth(path: Path) -> None:
    torch.save(vae_tensors(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def _write_bad_header(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def _write_deep_header(path: Path) -> None:
    header = b'{"a":' + b"[" * 100_000
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def _write_itself(path: Path) -> None:
    content: dict = {"number": 3}
    content["again"] = content
    torch.save(content, path)


def _write_odd_parts(path: Path) -> None:
    """A pickle of PyTorch's old layout whose list of storages is no list: unpickling fails with a TypeError."""
    parts = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}, {}, 5)
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "There is no file"),
    "empty": (lambda path: path.touch(), "empty"),
    "folder": (lambda path: path.mkdir(), "folder"),
    "text": (lambda path: path.write_text("hello, this is no model at all"), "text file"),
    "web page": (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "web page"),
    "git lfs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer",
    ),
    "gguf": (lambda path: path.write_bytes(b"GGUF" + bytes(100)), "GGUF"),
    "noise": (lambda path: path.write_bytes(bytes(range(128, 256))), "another kind of file|cannot be read"),
    "short noise": (lambda path: path.write_bytes(b"\x01\x02"), "another kind of file"),
    "cut": (_write_cut, "cut short.*bytes"),
    "cut header": (_write_cut_header, "cut short.*header"),
    "cut pth": (_write_cut_pth, "cut short or damaged"),
    "bad header": (_write_bad_header, "damaged .safetensors header"),
    "deep header": (_write_deep_header, "damaged .safetensors header"),
    "a dictionary that holds itself": (_write_itself, "holds no tensors"),
    "a pickle of odd parts": (_write_odd_parts, "cut short or damaged"),
    "code": (_write_code, "could run code"),
    "pickled code": (_write_plain_pickle, "could run code|cannot be read"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_cannot_be_read_are_explained(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write, message = FILES[kind]
    path = tmp_path / "vae.safetensors"
    write(path)
    with pytest.raises(CheckpointError, match=f"(?s)({message}).*{REMEDY}"):
        load_wan_vae(path)
    assert not (tmp_path / "code_was_run").exists()


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.load_wan_vae", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, encoding="utf-8")


def test_the_command_says_what_it_loaded(tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    save_wan_vae(path, random_vae(8), torch.float32)
    done = _run("--checkpoint", str(path), "--test", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"Loading Wan Video VAE from: {path}",
        "✓ Wan Video VAE loaded successfully",
        "Device: cpu",
        "Z-dim: 16",
        "Upsampling factor: 8",
        "Parameters frozen: True (recommended)",
        "Testing VAE...",
        "Encode: [1, 3, 5, 512, 512] -> [1, 16, 2, 64, 64]",
        "Decode: [1, 16, 2, 64, 64] -> [1, 3, 5, 512, 512]",
        "✓ VAE test passed",
    ]


@pytest.mark.parametrize("device", ["cpu", "nonsense"])
def test_the_command_fails_with_one_line(tmp_path: Path, device: str) -> None:
    done = _run("--checkpoint", str(tmp_path / "missing.safetensors"), "--test", "--device", device)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("✗ ")
    assert ("There is no file" if device == "cpu" else "The device nonsense") in done.stderr
