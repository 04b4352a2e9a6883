"""diffusers' Wan VAE with our weights, to compare with."""

from __future__ import annotations

from typing import Any

from delit_models.checkpoint_layouts import diffusers_name
from delit_models.wan_vae import WanVAE


def diffusers_wan_vae(vae: WanVAE) -> Any:
    """diffusers' AutoencoderKLWan with the weights of `vae`, in evaluation mode. ImportError without diffusers."""
    from diffusers import AutoencoderKLWan

    theirs = AutoencoderKLWan(base_dim=vae.config.dim, z_dim=vae.config.z_dim).eval()
    theirs.load_state_dict({diffusers_name(name): tensor for name, tensor in vae.state_dict().items()})
    return theirs
