"""Everything that Delit computes, on a graphics card: one table in Markdown, for one run on a machine that has one.

    python -m benchmarks.gpu [--parts vae heads finishing portrait training rendering] [--rounds 5] [--dim 96]

- vae: the Wan VAE at its full width with random weights, stills and clips, in fp32, bf16 and fp16, against diffusers'
  and the newest ComfyUI's class with the same weights at the same precision; as it is, through torch.compile and as a
  CUDA graph; the share of a matrix product's speed; the peak of memory beside the weights; and how far the result is
  from that in float64.
- heads, finishing, portrait: the embedded weights; finishing is detail transfer, matte and gain at the picture's size.
- training: pairs a second of the trainer, as `training.train_delit_wan` has it.
- rendering: pairs a minute of `training.generate_toy_dataset`, by Mitsuba on the card and on the processor.

Contestants take turns, times are medians. With `--device cpu` and small sizes everything runs without a card, except
for CUDA graphs and Mitsuba's CUDA variant; the table is then no more than a trial of this script.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from benchmarks.scaling import portrait
from benchmarks.training import new_trainer, random_batch
from benchmarks.vae import contestants, operations
from delit_models.checkpoint import load_wan_vae
from delit_models.pipeline import EMBEDDED_VAE, DelitPipeline
from delit_models.stages import finish
from delit_models.wan_vae import WanVAE, WanVAEConfig
from training.heads.linear_code import fit_linear_code

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WARM_UPS = 3

Call = Callable[[Tensor], object]


class Bench:
    """Times calls on a device and prints what they give, row by row.

    device: what everything runs on. rounds: what medians are over. compiles: whether torch.compile is tried.
    """

    def __init__(self, device: torch.device, rounds: int, compiles: bool) -> None:
        self.device, self.rounds, self.compiles = device, rounds, compiles
        self.on_card = device.type == "cuda"

    def head(self, title: str, *columns: str) -> None:
        print(f"\n| {' | '.join((title, *columns))} |\n|{'---|' * (1 + len(columns))}", flush=True)

    def row(self, *cells: str) -> None:
        print(f"| {' | '.join(cells)} |", flush=True)

    def seconds(self, function: Callable[[], object]) -> float:
        """How long one call takes, until the card has done it."""
        self._wait()
        start = time.perf_counter()
        function()
        self._wait()
        return time.perf_counter() - start

    def medians(self, functions: dict[str, Callable[[], object]]) -> dict[str, float | str]:
        """Median seconds of each in turns; a word in place of them for what this machine cannot do."""
        times: dict[str, list[float]] = {name: [] for name in functions}
        failed: dict[str, float | str] = {}
        for round_ in range(-WARM_UPS, self.rounds):
            for name, function in functions.items():
                if name in failed:
                    continue
                try:
                    spent = self.seconds(function)
                except Exception as error:  # One cell of a long table: the rest is worth having without it.
                    failed[name] = "out of memory" if "out of memory" in str(error) else "fails"
                    print(f"{name}: {_first_line(error)}", file=sys.stderr, flush=True)
                else:
                    if round_ >= 0:
                        times[name].append(spent)
        return {name: failed.get(name) or median(times[name]) for name in functions}

    def peak(self, function: Callable[[], object]) -> str:
        """The card's memory that a call takes at its most, beside what is there before."""
        if not self.on_card:
            return "–"
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        function()
        self._wait()
        return f"{(torch.cuda.max_memory_allocated(self.device) - before) / 2**20:.0f} MiB"

    def matrix_product(self, dtype: torch.dtype) -> float:
        """Operations a second of a square matrix product."""
        side = 8192 if self.on_card else 1024
        matrix = torch.rand(side, side, device=self.device).to(dtype)
        spent = self.medians({"matrix product": lambda: matrix @ matrix})["matrix product"]
        return 2 * side**3 / spent if isinstance(spent, float) else float("nan")

    def _wait(self) -> None:
        if self.on_card:
            torch.cuda.synchronize(self.device)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def shown(spent: float | str) -> str:
    return spent if isinstance(spent, str) else f"{1000 * spent:.1f} ms"


def ratio(other: float | str | None, ours: float | str) -> str:
    """How many times as long another takes."""
    if other is None:
        return "–"
    if isinstance(other, str) or isinstance(ours, str):
        return other if isinstance(other, str) else "–"
    return f"{other / ours:.2f}×"


def as_cuda_graph(function: Call, argument: Tensor) -> Callable[[], object]:
    """The launches of one call, recorded once and replayed: what a card does when it does not wait for Python."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            function(argument)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        # The result stays where it is for as long as the graph.
        graph.result = function(argument)
    return graph.replay


def ways(bench: Bench, function: Call, argument: Tensor) -> dict[str, Callable[[], object]]:
    """A call as it is, compiled, and as a CUDA graph."""
    found: dict[str, Callable[[], object]] = {"delit": lambda: function(argument)}
    if bench.compiles:
        torch._dynamo.reset()
        compiled = torch.compile(function, dynamic=False)
        found["compiled"] = lambda: compiled(argument)
    if bench.on_card:
        try:
            found["graph"] = as_cuda_graph(function, argument)
        except Exception as error:
            print(f"CUDA graph: {_first_line(error)}", file=sys.stderr, flush=True)
    return found


def report_vae(bench: Bench, options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    vae = WanVAE(WanVAEConfig(dim=options.dim)).eval().requires_grad_(False)
    entries = contestants(vae, bench.device.type)
    peers = [entry.name for entry in entries[1:]]
    columns = ("time", "share of peak", "memory", "error", *peers, "compiled", "CUDA graph")
    bench.head("VAE", *columns)
    for frames, size in ((1, options.size), (1, 2 * options.size), (9, options.size)):
        images = torch.rand(1, 3, frames, size, size, device=bench.device) * 2 - 1
        for entry in entries:
            entry.module.to(bench.device, torch.float64 if entry is entries[0] else torch.float32)
        latents = vae.encode(images.double())
        exact = {"encode": latents, "decode": vae.decode(latents)}
        for precision in options.precisions:
            dtype = PRECISIONS[precision]
            for entry in entries:
                entry.module.to(bench.device, dtype)
            peak = bench.matrix_product(dtype)
            for stage, argument in (("encode", images.to(dtype)), ("decode", latents.to(dtype))):
                calls = ways(bench, getattr(vae, stage), argument)
                for entry in entries[1:]:
                    calls[entry.name] = partial(getattr(entry, stage), argument)
                spent = bench.medians(calls)
                ours = spent["delit"]
                work = operations(getattr(vae, stage), argument)
                bench.row(
                    f"{stage} {frames} × {size}², {precision}",
                    shown(ours),
                    "–" if isinstance(ours, str) else f"{100 * work / ours / peak:.0f}%",
                    bench.peak(calls["delit"]),
                    _error(calls["delit"], exact[stage]),
                    *(ratio(spent.get(name), ours) for name in (*peers, "compiled", "graph")),
                )


def _error(call: Callable[[], Any], exact: Tensor) -> str:
    """The root mean square of the difference, as a share of the exact result's deviation."""
    difference = call().double() - exact
    return f"{float(difference.square().mean().sqrt() / exact.std()):.1e}"


def report_heads(bench: Bench, options: argparse.Namespace) -> None:
    heads = DelitPipeline.embedded(bench.device).heads
    bench.head("Heads", "time", "memory", "error", "compiled", "CUDA graph")
    for size in (options.size, 2 * options.size):
        z = torch.randn(1, 16, size // 8, size // 8, device=bench.device)
        exact = heads(z).z_flat.double()
        for precision in options.precisions:
            dtype = PRECISIONS[precision]

            def run(z: Tensor, dtype: torch.dtype = dtype) -> Tensor:
                with _cast_to(dtype, bench.device):
                    return heads(z).z_flat

            calls = ways(bench, run, z)
            spent = bench.medians(calls)
            bench.row(
                f"{size}², {precision}",
                shown(spent["delit"]),
                bench.peak(calls["delit"]),
                _error(calls["delit"], exact),
                *(ratio(spent.get(name), spent["delit"]) for name in ("compiled", "graph")),
            )


def _cast_to(dtype: torch.dtype, device: torch.device) -> Any:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def report_finishing(bench: Bench, options: argparse.Namespace) -> None:
    def on(device: torch.device, source: Tensor) -> Callable[[], object]:
        side = source.shape[1]
        low = F.interpolate(rearrange(source, "b h w c -> b c h w"), scale_factor=256 / side, mode="area")
        mask = torch.ones(source.shape[:3])
        given = [tensor.to(device) for tensor in (low * 0.7, source, low, mask)]
        return lambda: finish(*given)

    _against_the_processor(bench, "Finishing", (4 * options.size, 8 * options.size), on)


def report_portrait(bench: Bench, options: argparse.Namespace) -> None:
    def on(device: torch.device, picture: Tensor) -> Callable[[], object]:
        pipeline, given = DelitPipeline.embedded(device), picture.to(device)
        return lambda: pipeline(given)

    _against_the_processor(bench, "Portrait, embedded weights", (options.size, 8 * options.size), on)


def _against_the_processor(
    bench: Bench,
    title: str,
    sides: tuple[int, ...],
    on: Callable[[torch.device, Tensor], Callable[[], object]],
) -> None:
    """Rows for square pictures: what `on` makes of a device and a picture, here and on the processor."""
    bench.head(title, bench.device.type, "memory", "processor")
    for side in sides:
        picture = portrait(side, side)
        calls = {"here": on(bench.device, picture), "processor": on(torch.device("cpu"), picture)}
        spent = bench.medians(calls)
        bench.row(f"{side}²", shown(spent["here"]), bench.peak(calls["here"]), shown(spent["processor"]))


def report_training(bench: Bench, options: argparse.Namespace) -> None:
    code = fit_linear_code(load_wan_vae(EMBEDDED_VAE), torch.rand(2, 3, 128, 128) * 2 - 1)
    bench.head("Training heads, 256²", "fp32", "bf16", "memory, bf16")
    for batch_size in options.batch_sizes:
        batch = random_batch(batch_size, 256).to(bench.device)
        trainers = {
            name: new_trainer(code, batch_size, name == "bf16", cpu=not bench.on_card)
            for name in ("fp32", "bf16")
        }
        steps = {name: partial(trainer.train_step, batch) for name, trainer in trainers.items()}
        spent = bench.medians(steps)
        speeds = (
            value if isinstance(value, str) else f"{batch_size / value:.0f} pairs/s"
            for value in spent.values()
        )
        bench.row(f"batch {batch_size}", *speeds, bench.peak(steps["bf16"]))


def report_rendering(bench: Bench, options: argparse.Namespace) -> None:
    """Start-up is taken off: what more people take, not what the first do."""
    bench.head("Rendering, four lights a person", "pairs a minute")
    for device in dict.fromkeys((bench.device.type, "cpu")):
        few, many = (_rendered(people, device) for people in (1, 1 + options.people))
        bench.row(device, f"{240 * options.people / (many - few):.1f}")


def _rendered(people: int, device: str) -> float:
    with tempfile.TemporaryDirectory(prefix="delit-benchmark-") as folder:
        command = [sys.executable, "-m", "training.generate_toy_dataset", "--num_envs=4", "--workers=1"]
        command += [f"--output_dir={folder}/data", f"--num_subjects={people}", f"--device={device}"]
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"Rendering on {device} failed:\n{run.stderr}")
        return time.perf_counter() - start


REPORTS = {
    "vae": report_vae,
    "heads": report_heads,
    "finishing": report_finishing,
    "portrait": report_portrait,
    "training": report_training,
    "rendering": report_rendering,
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=REPORTS, default=list(REPORTS), help="what to measure (all)")
    add("--device", default="cuda", help="where (%(default)s)")
    add("--dim", type=int, default=96, help="width of the VAE (%(default)s, that of Wan 2.1)")
    add("--size", type=int, default=512, help="side of the smaller pictures in pixels (%(default)s)")
    add(
        "--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="of VAE and heads (all)"
    )
    add("--rounds", type=int, default=5, help="turns that medians are over (%(default)s)")
    add("--batch_sizes", type=int, nargs="+", default=[16, 64, 256], help="pairs a training step")
    add(
        "--no_compile",
        dest="compile",
        action="store_false",
        help="leave out torch.compile, which takes minutes",
    )
    add("--people", type=int, default=8, help="people to render (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "There is no CUDA device here. `--device cpu --size 64 --dim 16` tries this script out."
        )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    print(
        f"{name}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads, VAE of width {options.dim}"
    )
    bench = Bench(device, options.rounds, options.compile)
    for part in options.parts:
        # Training needs gradients, and keeps away from tensors made without.
        with nullcontext() if part == "training" else torch.inference_mode():
            REPORTS[part](bench, options)


if __name__ == "__main__":
    main()
