"""What a still costs against its pixels, and a clip against its frames: seconds of the processor, and memory.

    python -m benchmarks.scaling [--stills 1024 2048 4096 7680 --frames 5 17 33 65] [--plot scaling.png]
    python -m benchmarks.scaling --full_width 256 512 1024

Every line is a process of its own with the embedded weights. Seconds are the processor's, of all threads together, so
that a busy machine does not show; memory is the peak of the process beyond what it held with its weights loaded, the
picture that is given and the results that are kept included. Stills are 16:9 and go through the whole pipeline;
“finishing” is what comes after the network: detail transfer, matte and gain at the picture's own size.

`--full_width` tells what all that is not the VAE takes of a 4K still, where the VAE has the real Wan's width and random
weights, for each working size.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from delit_models.image_files import read_image
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.wan_vae import WanVAE, WanVAEConfig

PORTRAIT = Path(__file__).parents[1] / "portraits" / "photograph.jpg"
CLIP_SIDE = 256


def portrait(height: int, width: int) -> Tensor:
    """[1, height, width, 3]."""
    picture = rearrange(read_image(PORTRAIT)[..., :3], "h w c -> 1 c h w")
    picture = F.interpolate(picture, size=(height, width), mode="bilinear", antialias=True)
    return rearrange(picture, "b c h w -> b h w c").clamp(0, 1).contiguous()


def measure(kind: str, size: int) -> dict[str, float]:
    """One still `size` pixels wide, or one clip of `size` frames, in this process."""
    pipe = DelitPipeline.embedded("cpu")
    clip = kind == "frames"
    pipe(portrait(64, 64))
    before = memory("VmRSS")
    images = (
        portrait(CLIP_SIDE, CLIP_SIDE).repeat(size, 1, 1, 1) if clip else portrait(round(size * 9 / 16), size)
    )
    pixels = images.shape[0] * images.shape[1] * images.shape[2]
    # The picture that is given counts, what it was made with does not.
    restart_peak()
    start, marks = time.process_time(), []
    pipe(
        images,
        options=DelitOptions(clip=clip),
        progress=lambda done, total: marks.append(time.process_time()),
    )
    end = time.process_time()
    return {
        "megapixels": pixels / 1e6,
        "seconds": end - start,
        "finishing": end - marks[-1],
        "megabytes": memory("VmHWM") - before,
    }


class TimedVAE:
    """A VAE that adds up what its work takes, in seconds of the processor."""

    def __init__(self, vae: WanVAE) -> None:
        self.vae, self.seconds = vae, 0.0

    def encode(self, x: Tensor) -> Tensor:
        return self._timed(self.vae.encode, x)

    def decode(self, z: Tensor) -> Tensor:
        return self._timed(self.vae.decode, z)

    def _timed(self, work: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        start = time.process_time()
        made = work(given)
        self.seconds += time.process_time() - start
        return made


def compare_with_full_width(working_sizes: list[int]) -> None:
    """Print a 4K still's seconds, those in a VAE of the real Wan's width, and the share of the rest."""
    image = portrait(2160, 3840)
    vae = TimedVAE(WanVAE(WanVAEConfig()).eval().requires_grad_(False))
    pipe = DelitPipeline(vae, DelitPipeline.embedded("cpu").heads)
    for size in working_sizes:
        vae.seconds, start = 0.0, time.process_time()
        pipe(image, options=DelitOptions(working_size=size))
        seconds = time.process_time() - start
        print(
            f"3840 × 2160, working size {size:4}: {seconds:7.2f} s, in the VAE {vae.seconds:7.2f} s, "
            f"beside it {seconds - vae.seconds:5.2f} s ({(seconds - vae.seconds) / seconds:.0%})",
            flush=True,
        )


def restart_peak() -> None:
    """The peak of resident memory counts from now on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    arguments = parse_arguments()
    if arguments.one:
        kind, size = arguments.one
        print(json.dumps(measure(kind, int(size))))
        return
    if arguments.full_width:
        compare_with_full_width(arguments.full_width)
        return
    print(f"{torch.get_num_threads()} threads, fp32, embedded weights")
    rows: dict[str, list[dict[str, float]]] = {}
    for kind, sizes in (("stills", arguments.stills), ("frames", arguments.frames)):
        for size in sizes:
            command = [sys.executable, "-m", "benchmarks.scaling", "--one", kind, str(size)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows.setdefault(kind, []).append(row)
            what = f"{size:5} pixels wide" if kind == "stills" else f"{size:5} frames of {CLIP_SIDE}²"
            print(
                f"{what}: {row['megapixels']:6.2f} Mpx  {row['seconds']:6.2f} s, finishing {row['finishing']:6.2f} s "
                f"({1000 * row['finishing'] / row['megapixels']:4.0f} ms/Mpx)  {row['megabytes']:6.0f} MB",
                flush=True,
            )
    if arguments.plot:
        plot(rows, arguments.plot)


def plot(rows: dict[str, list[dict[str, float]]], path: str) -> None:
    """Seconds and memory against megapixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, (value, label) in zip(
        figure.subplots(1, 2), (("seconds", "seconds of the processor"), ("megabytes", "MB")), strict=True
    ):
        for kind, measured in rows.items():
            points = [row["megapixels"] for row in measured], [row[value] for row in measured]
            axes.plot(*points, "o-", label=kind if kind == "stills" else f"frames of {CLIP_SIDE}²")
        axes.set_xlabel("megapixels")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(path)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--stills", type=int, nargs="*", default=[1024, 2048, 4096, 7680], help="widths in pixels"
    )
    parser.add_argument(
        "--frames", type=int, nargs="*", default=[5, 17, 33, 65], help=f"of clips {CLIP_SIDE}² large"
    )
    parser.add_argument(
        "--full_width",
        type=int,
        nargs="+",
        metavar="SIZE",
        help="working sizes for a VAE of the real Wan's width",
    )
    parser.add_argument("--plot", help="picture to draw (needs matplotlib)")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
