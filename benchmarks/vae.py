"""Speed of the Wan VAE on stills against diffusers' and ComfyUI's, with the same weights, on the CPU.

    python -m benchmarks.vae [--size 256 --dim 96 --rounds 5]

The contestants take turns, so that other load on the machine meets all of them; ratios are medians over rounds.
The share of peak is our floating-point operations per second over those of a matrix product in the same round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from delit_models.wan_vae import WanVAE, WanVAEConfig
from tests.unit.comfyui_wan_vae import MISSING, comfyui_folders, comfyui_wan_vae
from tests.unit.diffusers_wan_vae import diffusers_wan_vae

GEMM_SIZE = 2048


@dataclass(frozen=True)
class Contestant:
    """A VAE as two functions of 5-D tensors of one frame."""

    name: str
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def contestants(vae: WanVAE) -> list[Contestant]:
    """Ours, and those of diffusers and of the newest ComfyUI if they are there, with the same weights."""
    found = [Contestant("delit", vae.encode, vae.decode)]
    try:
        theirs = diffusers_wan_vae(vae)
    except ImportError:
        print("diffusers is not installed: left out")
    else:
        found.append(
            Contestant(
                "diffusers",
                lambda x: theirs.encode(x).latent_dist.mean,
                lambda z: theirs.decode(z).sample,
            )
        )
    folders = comfyui_folders()
    if folders:
        newest = max(
            folders, key=lambda folder: [int(part) for part in folder.name.split(".") if part.isdigit()]
        )
        theirs_too = comfyui_wan_vae(newest, vae.config.dim, vae.state_dict())
        found.append(Contestant(f"ComfyUI {newest.name}", theirs_too.encode, theirs_too.decode))
    else:
        print(f"{MISSING}: left out")
    return found


def seconds(function: Callable[[Tensor], Tensor], argument: Tensor) -> float:
    start = time.perf_counter()
    function(argument)
    return time.perf_counter() - start


def operations(function: Callable[[Tensor], Tensor], argument: Tensor) -> int:
    """Floating-point operations of the matrix products and convolutions in a call."""
    with FlopCounterMode(display=False) as counter:
        function(argument)
    return counter.get_total_flops()


def gemm_speed(matrix: Tensor) -> float:
    """Operations per second of a square matrix product, the best of three."""
    return 2 * GEMM_SIZE**3 / min(seconds(matrix.matmul, matrix) for _ in range(3))


def report(stage: str, entries: list[Contestant], argument: Tensor, rounds: int) -> None:
    """Time one stage of all contestants in turns and print medians, ratios and our share of peak."""
    functions = {entry.name: getattr(entry, stage) for entry in entries}
    work = operations(functions["delit"], argument)
    matrix = torch.rand(GEMM_SIZE, GEMM_SIZE, dtype=argument.dtype)
    times: dict[str, list[float]] = {name: [] for name in functions}
    peaks = []
    for function in functions.values():
        function(argument)
    for _ in range(rounds):
        peaks.append(gemm_speed(matrix))
        for name, function in functions.items():
            times[name].append(seconds(function, argument))
    ours = times["delit"]
    share = median(work / spent / peak for spent, peak in zip(ours, peaks, strict=True))
    print(
        f"{stage}: delit {median(ours):.3f} s, {work / 1e12:.3f} TFLOP, "
        f"{100 * share:.0f}% of the peak of {median(peaks) / 1e9:.0f} GFLOP/s"
    )
    for name, theirs in times.items():
        if name != "delit":
            ratio = median(their / our for their, our in zip(theirs, ours, strict=True))
            print(f"{stage}: {name} {median(theirs):.3f} s, {ratio:.2f} times ours")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vae", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--size", type=int, default=256, help="side of the square still, pixels (default 256)"
    )
    parser.add_argument("--dim", type=int, default=96, help="width of the VAE (default 96, that of Wan 2.1)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that the medians are over (default 5)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    vae = WanVAE(WanVAEConfig(dim=arguments.dim)).eval().requires_grad_(False)
    entries = contestants(vae)
    print(
        f"width {arguments.dim}, {arguments.size} x {arguments.size}, {torch.get_num_threads()} threads, fp32"
    )
    with torch.no_grad():
        still = torch.rand(1, 3, 1, arguments.size, arguments.size) * 2 - 1
        report("encode", entries, still, arguments.rounds)
        report("decode", entries, vae.encode(still), arguments.rounds)


if __name__ == "__main__":
    main()
