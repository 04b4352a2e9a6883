"""A tiny data set that needs no renderer: coloured spheres on a wall, each in two lights. Quick enough to try a whole
installation on, and physically right: what a sphere shows is its albedo times the light that arrives at it.

It is no data to train weights on: they would learn spheres.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from delit_models.atomic_write import atomic_write
from delit_models.color import linear_to_srgb
from delit_models.env_map_files import write_env_map
from delit_models.image_files import write_image
from delit_models.lat_long import direction_grid, solid_angles

LIGHTS = ("left", "right")
_AMBIENT, _KEY = 0.3, 1.5
_WALL = 0.2
_LIGHT_SIZE = (32, 64)


def write_sphere_pairs(folder: Path, train_subjects: int = 2, test_subjects: int = 1, size: int = 64) -> None:
    """Write a data set folder (layout as training.generate_toy_dataset's) of square pictures `size` pixels wide."""
    lines = []
    generator = torch.Generator().manual_seed(0)
    for number in range(train_subjects + test_subjects):
        subject, split = f"sphere{number}", "train" if number < train_subjects else "test"
        albedo = 0.15 + 0.6 * torch.rand(3, generator=generator)
        normals, inside = _sphere(size)
        flat = torch.where(inside[..., None], albedo, torch.zeros(3))
        write_image(folder / "subjects" / subject / "flat.png", linear_to_srgb(flat))
        write_image(folder / "subjects" / subject / "mask.png", inside[..., None].float())
        for light in LIGHTS:
            # Each subject's light is a little its own, so that the splits share none.
            env = _light(light, _KEY * (1 + 0.1 * number))
            relit = torch.where(
                inside[..., None], albedo * _irradiance(env, normals), torch.full((3,), _WALL)
            )
            files = {
                "relit": f"subjects/{subject}/relit/{light}.png",
                "flat": f"subjects/{subject}/flat.png",
                "mask": f"subjects/{subject}/mask.png",
                "env_map": f"subjects/{subject}/env/{light}.exr",
            }
            write_image(folder / files["relit"], linear_to_srgb(relit))
            write_env_map(folder / files["env_map"], env)
            lines.append(json.dumps({"subject": subject, "env": light, "split": split, **files}))
    with atomic_write(folder / "index.jsonl") as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def _sphere(size: int) -> tuple[Tensor, Tensor]:
    """Normals [size, size, 3] of a sphere that the camera looks at, and where it is seen."""
    across = ((torch.arange(size) + 0.5) / size * 2 - 1) / 0.8
    y, x = torch.meshgrid(-across, across, indexing="ij")
    height = (1 - x.square() - y.square()).clamp(min=0).sqrt()
    return torch.stack((x, y, height), dim=-1), height > 0


def _light(side: str, key: float) -> Tensor:
    """Even light and a broad key from one side, [32, 64, 3], linear."""
    towards = direction_grid(*_LIGHT_SIZE)[..., :1] * (-1 if side == "left" else 1)
    colour = torch.tensor((1.0, 0.85, 0.7)) if side == "left" else torch.tensor((0.7, 0.85, 1.0))
    return _AMBIENT + key * towards.clamp(min=0) * colour


def _irradiance(env: Tensor, normals: Tensor) -> Tensor:
    """(1/π) ∫ L · max(0, n · ω) dω for normals [h, w, 3]; [h, w, 3]."""
    cosines = torch.einsum("h w d, y x d -> h w y x", normals, direction_grid(*_LIGHT_SIZE)).clamp(min=0)
    return (
        torch.einsum("h w y x, y x c -> h w c", cosines, env * solid_angles(*_LIGHT_SIZE)[..., None])
        / torch.pi
    )
