"""The Wan VAE gives what diffusers' and ComfyUI's own classes give with the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.unit.comfyui_wan_vae import MISSING, comfyui_folders
from tests.unit.diffusers_wan_vae import diffusers_wan_vae
from tests.unit.wan_vae_samples import random_clip, random_vae, relative_error

TOLERANCE = 1e-5

# (dim, frames, height, width)
CASES = [
    (8, 1, 32, 32),
    (8, 5, 24, 40),
    (8, 17, 32, 16),
    (16, 1, 40, 24),
    (16, 9, 32, 32),
    (24, 1, 64, 64),
    (24, 5, 16, 32),
    (24, 17, 16, 16),
    (96, 1, 32, 48),
    (96, 5, 32, 32),
    (96, 9, 16, 24),
    (96, 17, 16, 16),
]


def _case_id(case: tuple[int, int, int, int]) -> str:
    dim, frames, height, width = case
    return f"dim{dim}-{frames}x{height}x{width}"


@pytest.mark.parametrize("case", CASES, ids=_case_id)
@torch.inference_mode()
def test_equals_diffusers(case: tuple[int, int, int, int]) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed (pip install delit[dev])")
    dim, *size = case
    vae = random_vae(dim)
    reference = diffusers_wan_vae(vae)
    clip = random_clip(*size)
    latent = vae.encode(clip)
    assert relative_error(latent, reference.encode(clip).latent_dist.mean) <= TOLERANCE
    # diffusers clamps what it decodes.
    decoded = vae.decode(latent).clamp(-1, 1)
    assert relative_error(decoded, reference.decode(latent).sample) <= TOLERANCE


@pytest.mark.parametrize(
    "folder", comfyui_folders() or [None], ids=lambda folder: getattr(folder, "name", "none")
)
@torch.inference_mode()
def test_equals_comfyui(folder: Path | None, tmp_path: Path) -> None:
    if folder is None:
        pytest.skip(MISSING)
    jobs = []
    for dim in sorted({case[0] for case in CASES}):
        state = {name: tensor.contiguous() for name, tensor in random_vae(dim).state_dict().items()}
        jobs.append(
            {
                "dim": dim,
                "state": state,
                "clips": [random_clip(*case[1:]) for case in CASES if case[0] == dim],
            }
        )
    torch.save(jobs, tmp_path / "jobs.pt")
    script = Path(__file__).with_name("comfyui_wan_vae.py")
    command = [
        sys.executable,
        str(script),
        str(folder),
        str(tmp_path / "jobs.pt"),
        str(tmp_path / "results.pt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    results = iter(torch.load(tmp_path / "results.pt", weights_only=True))
    for job in jobs:
        vae = random_vae(job["dim"])
        for clip in job["clips"]:
            expected_latent, expected_decoded = next(results)
            assert relative_error(vae.encode(clip), expected_latent) <= TOLERANCE
            assert relative_error(vae.decode(expected_latent), expected_decoded) <= TOLERANCE
    assert next(results, None) is None
