"""Load a Wan video VAE, say what it is, and try it on a short clip.

python -m training.load_wan_vae --checkpoint wan_2.1_vae.safetensors --test
"""

from __future__ import annotations

import argparse
import sys

import torch

from delit_models.checkpoint import load_wan_vae
from delit_models.errors import DelitError
from delit_models.wan_vae import SPATIAL_FACTOR, WanVAE

from .command_line import choose_device, run_command

TEST_CLIP = (1, 3, 5, 512, 512)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.load_wan_vae",
        description="Load a Wan 2.1 VAE (any width and layout) and say whether it works.",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="P",
        help="the VAE: a .safetensors or .pth file, or a diffusers folder",
    )
    parser.add_argument(
        "--test", action="store_true", help="encode and decode a random clip of 5 frames of 512 x 512 pixels"
    )
    parser.add_argument(
        "--device", default=None, help="cpu, cuda, cuda:1, mps... (default: cuda if there is one, else cpu)"
    )
    return parser.parse_args(arguments)


@torch.inference_mode()
def test_vae(vae: WanVAE, device: torch.device) -> None:
    """Encode and decode a random clip and print the shapes. Raises DelitError if the result is not finite, or if there
    is too little memory."""
    clip = torch.rand(TEST_CLIP, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    try:
        latent = vae.encode(clip)
        print(f"Encode: {list(clip.shape)} -> {list(latent.shape)}")
        decoded = vae.decode(latent)
        print(f"Decode: {list(latent.shape)} -> {list(decoded.shape)}")
    except (RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DelitError(f"The clip cannot be computed on {device} ({reason}). Try --device cpu.") from error
    if decoded.shape != clip.shape or not (latent.isfinite().all() and decoded.isfinite().all()):
        raise DelitError(
            "The VAE's output is not finite or of another size: its weights are damaged. Fetch them again."
        )


def run(arguments: argparse.Namespace) -> None:
    print(f"Loading Wan Video VAE from: {arguments.checkpoint}")
    device = choose_device(arguments.device)
    vae = load_wan_vae(arguments.checkpoint, device)
    print("✓ Wan Video VAE loaded successfully")
    print(f"Device: {device}")
    print(f"Z-dim: {vae.config.z_dim}")
    print(f"Upsampling factor: {SPATIAL_FACTOR}")
    frozen = not any(parameter.requires_grad for parameter in vae.parameters())
    print(f"Parameters frozen: {frozen} (recommended)")
    if arguments.test:
        print("Testing VAE...")
        test_vae(vae, device)
        print("✓ VAE test passed")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    run_command(run, parse_arguments())
