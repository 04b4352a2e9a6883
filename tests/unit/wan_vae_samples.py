"""Random Wan VAEs and clips for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from delit_models.wan_vae import WanVAE, WanVAEConfig


def random_vae(dim: int = 8, seed: int = 0, **config: int) -> WanVAE:
    """A VAE with random weights, gammas included, in evaluation mode."""
    torch.manual_seed(seed)
    vae = WanVAE(WanVAEConfig(dim=dim, **config)).eval().requires_grad_(False)
    for name, parameter in vae.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.5, 1.5)
    return vae


def random_clip(frames: int, height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    """[batch, 3, frames, height, width] in [-1, 1]."""
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over largest magnitude."""
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()
