"""Weights files that Delit must refuse, small ones with the names and shapes of the real thing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from delit_models.heads_file import METADATA_KEY, load_heads, save_heads
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE


def truncated(source: Path, path: Path) -> None:
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


def truncated_vae(path: Path) -> None:
    truncated(EMBEDDED_VAE, path)


def truncated_heads(path: Path) -> None:
    truncated(EMBEDDED_HEADS, path)


def text_file(path: Path) -> None:
    path.write_text("<!doctype html><html><body>404: not found</body></html>")


def stable_diffusion_vae(path: Path) -> None:
    _save(
        path,
        {
            "encoder.conv_in.weight": (128, 3, 3, 3),
            "encoder.down.0.block.0.norm1.weight": (128,),
            "decoder.conv_in.weight": (512, 4, 3, 3),
            "quant_conv.weight": (8, 8, 1, 1),
        },
    )


def wan_5b_vae(path: Path) -> None:
    _save(
        path,
        {
            "encoder.conv1.weight": (16, 12, 3, 3, 3),
            "encoder.downsamples.0.downsamples.0.residual.0.gamma": (16, 1, 1, 1),
            "decoder.upsamples.0.upsamples.0.residual.0.gamma": (16, 1, 1, 1),
            "conv2.weight": (48, 48, 1, 1, 1),
        },
    )


def diffusion_model(path: Path) -> None:
    _save(
        path,
        {
            "model.diffusion_model.patch_embedding.weight": (64, 16, 1, 2, 2),
            "model.diffusion_model.blocks.0.self_attn.q.weight": (64, 64),
        },
    )


def heads_of_another_vae(path: Path) -> None:
    loaded = load_heads(EMBEDDED_HEADS)
    info = replace(loaded.info, name="stranger", vae_name="vae of elsewhere")
    save_heads(path, loaded.heads, torch.randn_like(loaded.vae_probe), info)


def heads_of_a_newer_format(path: Path) -> None:
    with safe_open(EMBEDDED_HEADS, framework="pt") as file:
        description = json.loads(file.metadata()[METADATA_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    description["format_version"] = 99
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(description)})


def _save(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
