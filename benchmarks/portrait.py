"""Time and memory of a whole portrait with the embedded weights, against the same pipeline on diffusers' VAE.

    python -m benchmarks.portrait [--size 512 --rounds 5]

The peak of memory is that of this process with our own VAE, start-up and weights included, before diffusers is
imported. Times are medians; the contestants take turns.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from delit_models.image_files import read_image
from delit_models.pipeline import DelitPipeline
from tests.unit.diffusers_wan_vae import diffusers_wan_vae

PORTRAIT = Path(__file__).parents[1] / "portraits" / "photograph.jpg"


class DiffusersVAE:
    """diffusers' AutoencoderKLWan with our weights, stills in and out as our VAE has them."""

    def __init__(self, pipeline: DelitPipeline) -> None:
        self.vae = diffusers_wan_vae(pipeline.vae)

    def encode(self, x: Tensor) -> Tensor:
        z = self.vae.encode(rearrange(x, "b c h w -> b c 1 h w")).latent_dist.mean
        return rearrange(z, "b c 1 h w -> b c h w")

    def decode(self, z: Tensor) -> Tensor:
        x = self.vae.decode(rearrange(z, "b c h w -> b c 1 h w")).sample
        return rearrange(x, "b c 1 h w -> b c h w")


def seconds(pipeline: DelitPipeline, portrait: Tensor) -> float:
    """How long one portrait takes."""
    start = time.perf_counter()
    pipeline(portrait)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.portrait", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--size", type=int, default=512, help="side of the portrait, pixels (default 512)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that the medians are over (default 5)")
    arguments = parser.parse_args()
    picture = rearrange(read_image(PORTRAIT)[..., :3], "h w c -> 1 c h w")
    picture = F.interpolate(picture, size=(arguments.size, arguments.size), mode="bilinear", antialias=True)
    portrait = rearrange(picture, "b c h w -> b h w c").clamp(0, 1)

    start = time.perf_counter()
    ours = DelitPipeline.embedded("cpu")
    loading = time.perf_counter() - start
    first = seconds(ours, portrait)
    # Linux gives kilobytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{arguments.size} x {arguments.size}, {torch.get_num_threads()} threads, fp32")
    print(f"loading {loading:.2f} s, first portrait {first:.2f} s, peak memory {peak:.0f} MiB")

    theirs = DelitPipeline(DiffusersVAE(ours), ours.heads)
    seconds(theirs, portrait)
    rounds = [(seconds(ours, portrait), seconds(theirs, portrait)) for _ in range(arguments.rounds)]
    mine, peer = (median(times) for times in zip(*rounds, strict=True))
    ratio = median(their / our for our, their in rounds)
    print(f"delit {mine:.2f} s a portrait; with diffusers' VAE {peer:.2f} s, {ratio:.2f} times ours")


if __name__ == "__main__":
    main()
