"""ComfyUI's own Wan VAE class, for comparison. Run as a script it encodes and decodes with one version of it:

    python comfyui_wan_vae.py COMFYUI_DIR INPUT.pt OUTPUT.pt

INPUT holds {"dim": int, "state": state dict, "clips": [tensors]}; OUTPUT gets [(latent, decoded), ...].
A process of its own for each version, because two ComfyUIs cannot be imported into one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

MISSING = (
    "no ComfyUI found: name a checkout in COMFYUI_DIR, or clone it (v0.8.0 or newer) into "
    "~/.cache/delit/comfyui/VERSION"
)


def comfyui_folders() -> list[Path]:
    """ComfyUI checkouts: those that COMFYUI_DIR names, else those in ~/.cache/delit/comfyui."""
    named = os.environ.get("COMFYUI_DIR")
    candidates = (
        [Path(name) for name in named.split(os.pathsep)]
        if named
        else sorted((Path.home() / ".cache/delit/comfyui").glob("*"))
    )
    return [folder for folder in candidates if (folder / "comfy/ldm/wan/vae.py").is_file()]


def comfyui_wan_vae(
    folder: Path, dim: int, state: dict[str, torch.Tensor], device: str = "cpu"
) -> torch.nn.Module:
    """ComfyUI's class with the given weights, on the CPU. Imports ComfyUI into this process, set up for a device."""
    arguments, sys.argv = sys.argv, [sys.argv[0], *(["--cpu"] if device == "cpu" else [])]
    sys.path.insert(0, str(folder))
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        from comfy.ldm.wan.vae import WanVAE
    finally:
        sys.argv = arguments
        sys.path.remove(str(folder))
    vae = WanVAE(
        dim=dim,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    vae.load_state_dict(state, strict=True)
    return vae.eval()


@torch.inference_mode()
def main(folder: str, input_file: str, output_file: str) -> None:
    jobs = torch.load(input_file, weights_only=True)
    results = []
    for job in jobs:
        vae = comfyui_wan_vae(Path(folder), job["dim"], job["state"])
        for clip in job["clips"]:
            latent = vae.encode(clip)
            results.append((latent, vae.decode(latent)))
    torch.save(results, output_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
