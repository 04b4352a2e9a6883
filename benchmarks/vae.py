"""Speed and memory of the Wan VAE against diffusers' and ComfyUI's, with the same weights, on the CPU.

    python -m benchmarks.vae [--size 256 --dim 96 --rounds 5]
    python -m benchmarks.vae --frames 9 [--size 192 --dim 96 --rounds 5]

The contestants take turns, so that other load on the machine meets all of them; ratios are medians over rounds, of
time that passes and of processor time, which other load disturbs less. Our floating-point operations per second are
also given as a share of those of a matrix product in the same round; where convolutions have the better library on a
processor, it is over 100%.

Memory is the peak of a process of its own, less what it takes with the weights loaded. glibc is told to give back what
is freed at once, as in benchmarks.video.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.video import ALLOCATOR
from delit_models.wan_vae import WanVAE, WanVAEConfig
from tests.unit.comfyui_wan_vae import MISSING, comfyui_folders, comfyui_wan_vae
from tests.unit.diffusers_wan_vae import diffusers_wan_vae

GEMM_SIZE = 2048


@dataclass(frozen=True)
class Spent:
    """Seconds that passed, and seconds of processor time of all threads."""

    passed: float
    processor: float


@dataclass(frozen=True)
class Contestant:
    """A VAE as two functions of stills or clips, 5-D tensors."""

    name: str
    module: nn.Module
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def contestants(vae: WanVAE, device: str = "cpu") -> list[Contestant]:
    """Ours, and those of diffusers and of the newest ComfyUI if they are there, with the same weights.

    device: the kind that they will be moved to; ComfyUI chooses its attention by it.
    """
    found = [Contestant("delit", vae, vae.encode, vae.decode)]
    try:
        theirs = diffusers_wan_vae(vae)
    except ImportError:
        print("diffusers is not installed: left out")
    else:
        found.append(
            Contestant(
                "diffusers",
                theirs,
                lambda x: theirs.encode(x).latent_dist.mean,
                lambda z: theirs.decode(z).sample,
            )
        )
    folders = comfyui_folders()
    if folders:
        newest = max(
            folders, key=lambda folder: [int(part) for part in folder.name.split(".") if part.isdigit()]
        )
        theirs_too = comfyui_wan_vae(newest, vae.config.dim, vae.state_dict(), device)
        found.append(Contestant(f"ComfyUI {newest.name}", theirs_too, theirs_too.encode, theirs_too.decode))
    else:
        print(f"{MISSING}: left out")
    return found


def seconds(function: Callable[[Tensor], Tensor], argument: Tensor) -> Spent:
    passed, processor = time.perf_counter(), time.process_time()
    function(argument)
    return Spent(time.perf_counter() - passed, time.process_time() - processor)


def operations(function: Callable[[Tensor], Tensor], argument: Tensor) -> int:
    """Floating-point operations of the matrix products and convolutions in a call."""
    with FlopCounterMode(display=False) as counter:
        function(argument)
    return counter.get_total_flops()


def gemm_speed(matrix: Tensor) -> float:
    """Operations per second of a square matrix product, the best of three."""
    return 2 * GEMM_SIZE**3 / min(seconds(matrix.matmul, matrix).passed for _ in range(3))


def report(stage: str, entries: list[Contestant], argument: Tensor, rounds: int) -> None:
    """Time one stage of all contestants in turns and print medians, ratios and our share of peak."""
    functions = {entry.name: getattr(entry, stage) for entry in entries}
    work = operations(functions["delit"], argument)
    matrix = torch.rand(GEMM_SIZE, GEMM_SIZE, dtype=argument.dtype)
    times: dict[str, list[Spent]] = {name: [] for name in functions}
    peaks = []
    for function in functions.values():
        function(argument[:, :, :1])
    for _ in range(rounds):
        peaks.append(gemm_speed(matrix))
        for name, function in functions.items():
            times[name].append(seconds(function, argument))
    ours = times["delit"]
    share = median(work / spent.passed / peak for spent, peak in zip(ours, peaks, strict=True))
    print(
        f"{stage}: delit {median(spent.passed for spent in ours):.3f} s, {work / 1e12:.3f} TFLOP, "
        f"{100 * share:.0f}% of the {median(peaks) / 1e9:.0f} GFLOP/s of a matrix product",
        flush=True,
    )
    for name, theirs in times.items():
        if name != "delit":
            pairs = list(zip(theirs, ours, strict=True))
            passed = median(their.passed / our.passed for their, our in pairs)
            processor = median(their.processor / our.processor for their, our in pairs)
            print(
                f"{stage}: {name} {median(spent.passed for spent in theirs):.3f} s, {passed:.2f} times ours "
                f"({processor:.2f} times the processor time)",
                flush=True,
            )


def peak_of(stage: str, entry: Contestant, images: Tensor, latents: Tensor) -> float:
    """The peak of this process in a stage, in MiB above what it takes before."""
    function, argument = getattr(entry, stage), images if stage == "encode" else latents
    # What is loaded at a first call is no part of it: 16 pixels or 2 cells go before.
    side = 16 if stage == "encode" else 2
    function(argument[..., :side, :side])
    # Linux then counts the peak anew (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    before = status_megabytes("VmHWM")
    function(argument)
    return status_megabytes("VmHWM") - before


def status_megabytes(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def report_memory(names: list[str], arguments: argparse.Namespace) -> None:
    """Print the peaks of all contestants, each stage in a process of its own."""
    if sys.platform != "linux":
        print("memory: measured on Linux only")
        return
    options = [f"--{name}={getattr(arguments, name)}" for name in ("frames", "size", "dim")]
    options += ["--threads", str(torch.get_num_threads())]
    for stage in ("encode", "decode"):
        for name in names:
            command = [sys.executable, "-m", "benchmarks.vae", *options, "--peak_of", stage, name]
            run = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ALLOCATOR
            )
            print(run.stdout.splitlines()[-1], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vae", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1, help="frames, 4n + 1 (default 1: a still)")
    parser.add_argument(
        "--size",
        type=int,
        help="side of the square pictures, pixels (default 256, of clips 192)",
    )
    parser.add_argument("--dim", type=int, default=96, help="width of the VAE (default 96, that of Wan 2.1)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that the medians are over (default 5)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--peak_of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.size = arguments.size or (256 if arguments.frames == 1 else 192)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    vae = WanVAE(WanVAEConfig(dim=arguments.dim)).eval().requires_grad_(False)
    entries = contestants(vae)
    frames, size = arguments.frames, arguments.size
    images = torch.rand(1, 3, frames, size, size) * 2 - 1
    with torch.no_grad():
        if arguments.peak_of:
            stage, name = arguments.peak_of
            entry = next(entry for entry in entries if entry.name == name)
            latents = torch.randn(1, vae.config.z_dim, (frames + 3) // 4, size // 8, size // 8)
            peak = peak_of(stage, entry, images, latents)
            print(f"memory: {stage}, {name}: peak {peak:.0f} MiB beside the weights")
            return
        print(f"width {arguments.dim}, {frames} x {size} x {size}, {torch.get_num_threads()} threads, fp32")
        report("encode", entries, images, arguments.rounds)
        report("decode", entries, vae.encode(images), arguments.rounds)
    report_memory([entry.name for entry in entries], arguments)


if __name__ == "__main__":
    main()
