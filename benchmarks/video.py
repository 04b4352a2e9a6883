"""Flicker and memory of clips with the embedded weights.

    python -m benchmarks.video [--frames 30] [--memory_frames 40 --memory_size 1920x1080]

Two clips are made of portraits/photograph.jpg: one pans over it, in the other the head sways and the mouth opens. Both
have grain and 8 bits, as footage has. Frames are registered by the known motion and compared with the next one: the
mean difference of linear luminance over the subject, in stops. Three ways are compared: every frame as a still, the
VAE's own clip path, and the stream that nodes and command line use. A ghost is a trail at the subject's edge: the
stream's difference from the stills is given there too.

Memory is the peak of a process of its own that streams so many frames, and twice as many, less what it takes once the
weights are loaded. glibc is told to give back what is freed at once (MALLOC_MMAP_THRESHOLD_): what is held is measured;
by itself it keeps free holes, which wander by some 100 MiB from run to run.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from delit_models.color import luminance, srgb_to_linear
from delit_models.image_files import read_image
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.stages import decode_pictures, encode_images, finish
from delit_models.video.windows import clip_windows

PORTRAIT = Path(__file__).parents[1] / "portraits" / "photograph.jpg"
GRAIN = 2 / 255
FLOOR = 0.01
PAN = (2.3, 0.7)
PAN_SIZE = 400
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}


@dataclass(frozen=True)
class Clip:
    """Frames [T, H, W, 3]; for each, where a place of the first view lies in it, [1, H, W, 2] in pixels; and which
    places are looked at, [H, W], and which of them lie at the subject's edge."""

    name: str
    frames: Tensor
    places: list[Tensor]
    subject: Tensor
    edge: Tensor


def pixel_grid(height: int, width: int) -> Tensor:
    """[1, H, W, 2]: the (x, y) of every pixel's middle."""
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]


def sample(picture: Tensor, places: Tensor) -> Tensor:
    """[1, C, h, w] at places [1, H, W, 2] in pixels → [1, C, H, W]."""
    height, width = picture.shape[-2:]
    grid = places * 2 / torch.tensor((width, height)) - 1
    return F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)


def filmed(picture: Tensor, places: Tensor, random: torch.Generator) -> Tensor:
    """A frame [1, H, W, 3] with grain, in 8 bits."""
    clean = sample(picture, places)
    grainy = (clean + GRAIN * torch.randn(clean.shape, generator=random)).clamp(0, 1)
    return rearrange((grainy * 255).round() / 255, "1 c h w -> 1 h w c")


def pan(picture: Tensor, matte: Tensor, count: int) -> Clip:
    """The camera passes over the photograph, a fraction of a pixel at a time."""
    random = torch.Generator().manual_seed(0)
    grid = pixel_grid(PAN_SIZE, PAN_SIZE)
    steps = [torch.tensor(PAN) * t for t in range(count)]
    frames = torch.cat([filmed(picture, grid + step, random) for step in steps])
    places = [grid - step for step in steps]
    in_all = torch.stack([((p > 8) & (p < PAN_SIZE - 8)).all(dim=-1)[0] for p in places]).all(dim=0)
    first = sample(matte, grid)[0, 0]
    return Clip("pan", frames, places, in_all & (first > 0.5), in_all & edge_of(first))


def talk(picture: Tensor, matte: Tensor, count: int) -> Clip:
    """The head sways and the mouth opens before a background that stands still."""
    random = torch.Generator().manual_seed(1)
    height, width = picture.shape[-2:]
    grid = pixel_grid(height, width)

    def bump(places: Tensor, centre: tuple[float, float], size: tuple[float, float]) -> Tensor:
        scaled = (places - torch.tensor(centre) * width) / (torch.tensor(size) * width)
        return torch.exp(-scaled.square().sum(dim=-1, keepdim=True))

    def moved(places: Tensor, t: int) -> Tensor:
        sway = torch.tensor((10 * math.sin(t / 9), 5 * math.sin(t / 6)))
        opening = torch.tensor((0.0, 6 * math.sin(t / 2.5)))
        head = bump(places, (0.5, 0.45), (0.3, 0.4))
        return head * sway + bump(places, (0.5, 0.65), (0.09, 0.06)) * opening

    frames, places = [], []
    for t in range(count):
        frames.append(filmed(picture, grid - moved(grid, t), random))
        # Where a place of the photograph went: the motion is given by where frames come from, so it is inverted.
        there = grid
        for _ in range(30):
            there = grid + moved(there, t)
        places.append(there)
    inner = torch.zeros(height, width, dtype=torch.bool)
    inner[20:-20, 20:-20] = True
    subject = matte[0, 0]
    return Clip("talk", torch.cat(frames), places, inner & (subject > 0.5), inner & edge_of(subject))


def edge_of(matte: Tensor, radius: int = 8) -> Tensor:
    """[H, W]: so many pixels on either side of a matte's edge."""
    inside = (matte > 0.5).float()[None, None]
    window = 2 * radius + 1
    grown = F.max_pool2d(inside, window, stride=1, padding=radius)
    shrunk = 1 - F.max_pool2d(1 - inside, window, stride=1, padding=radius)
    return (grown > shrunk)[0, 0]


def registered_stops(frames: Tensor, clip: Clip) -> list[Tensor]:
    """log2 of linear luminance of every frame, [H, W], lying over the first view."""
    pairs = zip(frames, clip.places, strict=True)
    views = (sample(rearrange(frame, "h w c -> 1 c h w"), places).clamp(0, 1) for frame, places in pairs)
    return [(luminance(srgb_to_linear(view), dim=1)[0] + FLOOR).log2() for view in views]


def change(stops: list[Tensor], region: Tensor) -> float:
    """Mean difference of frames that follow each other."""
    pairs = zip(stops[:-1], stops[1:], strict=True)
    return torch.stack([(a - b).abs()[region].mean() for a, b in pairs]).mean().item()


def as_stills(pipe: DelitPipeline, frames: Tensor) -> Tensor:
    return pipe(frames, options=DelitOptions(area="picture")).flat


def through_the_vae_as_a_clip(pipe: DelitPipeline, frames: Tensor) -> Tensor:
    """The VAE's clip path, not steadied."""
    done = []
    with torch.inference_mode():
        for window, known in clip_windows(frames):
            batch = torch.stack(window)
            z, framing = encode_images(pipe.vae, batch, pipe.config.working_size, clip=True)
            z_flat = pipe.heads(z).z_flat
            flat, reconstruction = (decode_pictures(pipe.vae, x, framing) for x in (z_flat, z))
            done.append(finish(flat, batch, reconstruction).flat[known:])
    return torch.cat(done)


def as_stream(pipe: DelitPipeline, frames: Tensor) -> Tensor:
    return pipe(frames, options=DelitOptions(area="picture", clip=True)).flat


WAYS: dict[str, Callable[[DelitPipeline, Tensor], Tensor]] = {
    "frames as stills": as_stills,
    "the VAE's clip path": through_the_vae_as_a_clip,
    "stream": as_stream,
}


def report_flicker(pipe: DelitPipeline, clip: Clip) -> None:
    own = change(registered_stops(clip.frames, clip), clip.subject)
    print(f"{clip.name}, {len(clip.frames)} frames: the source's own change {own:.4f} stops a frame")
    stills = None
    for name, way in WAYS.items():
        stops = registered_stops(way(pipe, clip.frames), clip)
        flicker = change(stops, clip.subject)
        line = f"  {name}: {flicker:.4f} stops, {flicker / own:.2f} times the source's own"
        if stills is None:
            stills = stops
        else:
            off = torch.stack([(a - b).abs() for a, b in zip(stops, stills, strict=True)])
            edge, inner = off[:, clip.edge].mean().item(), off[:, clip.subject & ~clip.edge].mean().item()
            line += f"; off the stills by {inner:.3f} stops inside the subject, {edge:.3f} at its edge"
        print(line, flush=True)


def peak_of_a_stream(count: int, width: int, height: int) -> None:
    """Print the peak of this process, in MiB above what it takes with the weights loaded, and the frames that came."""
    pipe = DelitPipeline.embedded("cpu")
    picture = rearrange(read_image(PORTRAIT)[..., :3], "h w c -> 1 c h w")
    large = F.interpolate(picture, size=(height, width + 2 * count), mode="bilinear")[0].permute(1, 2, 0)
    large = (large * 255).to(torch.uint8)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def frames() -> Iterator[Tensor]:
        for t in range(count):
            yield large[:, 2 * t : 2 * t + width].clone()

    came = sum(1 for _ in pipe.stream(frames()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{came} {peak - before:.0f}")


def report_memory(count: int, size: str) -> None:
    peaks = []
    for frames in (count, 2 * count):
        command = [sys.executable, "-m", "benchmarks.video", "--peak_of", str(frames), "--memory_size", size]
        run = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | ALLOCATOR)
        came, peak = run.stdout.split()
        print(
            f"memory: {frames} frames of {size}, {came} came out, peak {peak} MiB beside the model",
            flush=True,
        )
        peaks.append(float(peak))
    print(f"memory: {(peaks[1] - peaks[0]) / count:.2f} MiB more for each further frame")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=30, help="frames of the clips (default 30)")
    parser.add_argument("--memory_frames", type=int, default=40, help="0 leaves memory out (default 40)")
    parser.add_argument("--memory_size", default="1920x1080", help="size of those frames (default 1920x1080)")
    parser.add_argument("--peak_of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        peak_of_a_stream(arguments.peak_of, *map(int, arguments.memory_size.split("x")))
        return
    pipe = DelitPipeline.embedded("cpu")
    pipe.config = replace(pipe.config, temporal=False)
    portrait = read_image(PORTRAIT)[None, ..., :3]
    picture, matte = rearrange(portrait, "b h w c -> b c h w"), pipe(portrait).matte[:, None]
    for make in (pan, talk):
        report_flicker(pipe, make(picture, matte, arguments.frames))
    if arguments.memory_frames:
        report_memory(arguments.memory_frames, arguments.memory_size)


if __name__ == "__main__":
    main()
