"""How surely closure tells a true light from a wrong one, and how well Delit's own light closes, on rendered pairs.

    .venv/bin/python -m training.generate_toy_dataset --output_dir data --num_subjects 8 --num_envs 3 \\
        --image_size 192 --seed 5 --samples_per_pixel 8
    .venv/bin/python -m benchmarks.closure data

The normals are the renderer's. “true” is the flat-lit picture and the light that the pair was rendered with, “turned”
the same light turned by 90, 180 and 270 degrees, “delit” what the embedded weights find in the relit picture alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor

from delit_models.closure import GOOD, Closure, closure
from delit_models.image_files import read_env_map, read_image
from delit_models.normals import encode_normals
from delit_models.oiio_files import read_pixels
from delit_models.pipeline import DelitOptions, DelitPipeline
from training.data.pairs import read_entries


def closures(root: Path, entry: dict, pipeline: DelitPipeline) -> dict[str, list[Closure]]:
    """One pair's closure under its true light, under that turned, and as the embedded weights see it."""
    source, flat = (read_image(root / entry[name])[None, ..., :3] for name in ("relit", "flat"))
    normals = encode_normals(torch.from_numpy(read_pixels(root / entry["normals"]).pixels))[None]
    env = read_env_map(root / entry["env_map"]).radiance[None]
    mask = read_image(root / entry["mask"])[None, ..., 0]
    found = pipeline(source, mask, DelitOptions())

    def of(flat: Tensor, env: Tensor) -> Closure:
        return closure(source, flat, normals, env, mask).pictures[0]

    quarter = env.shape[2] // 4
    return {
        "true": [of(flat, env)],
        "turned": [of(flat, env.roll(turns * quarter, dims=2)) for turns in (1, 2, 3)],
        "delit": [of(found.flat, found.env)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Closure of true, turned and found light on rendered pairs.")
    parser.add_argument("data_root", type=Path, help="a data set of training.generate_toy_dataset")
    root = parser.parse_args().data_root
    pipeline = DelitPipeline.embedded("cpu")
    pairs = [closures(root, entry, pipeline) for entry in read_entries(root) if "normals" in entry]
    print(f"{len(pairs)} pairs")
    print(f"        explained  from {GOOD}  correlation  residual  exposure   colour")
    for name in ("true", "turned", "delit"):
        every = [one for pair in pairs for one in pair[name]]
        explained, correlation, residual, color = (
            median(getattr(one, key) for one in every)
            for key in ("explained", "correlation", "residual", "color")
        )
        good = mean(one.explained >= GOOD for one in every)
        exposure = median(abs(one.exposure) for one in every)
        print(
            f"{name:8}{explained:9.2f}{good:10.0%}{correlation:13.2f}{residual:10.2f}{exposure:10.2f}{color:8.1f}°"
        )
    first = mean(pair["true"][0].explained > max(one.explained for one in pair["turned"]) for pair in pairs)
    print(f"The true light explains more than all turned ones on {first:.0%} of the pairs.")


if __name__ == "__main__":
    main()
