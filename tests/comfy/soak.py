"""A long service: prompt after prompt of changing sizes, stills and clips, at a real ComfyUI server.

    scripts/soak --prompts 1000 --at_most 1500

Tells how much memory the server holds on the way and how many prompts failed. The exit status is 1 where one failed,
or where the server held more than `--at_most` MB at the end of a prompt. What the system's own settings do can be tried
in the environment: MALLOC_ARENA_MAX=2, ONEDNN_PRIMITIVE_CACHE_CAPACITY=16; ComfyUI's own after “--”: -- --cache-none.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.comfy import graphs
from tests.comfy.comfyui import HOW_TO_PROVIDE, Checkout, ComfyServer, Graph, find_checkouts

SIDES = (64, 640)
CLIP_FRAMES = (2, 9)
LARGEST_CLIP_SIDE = 256
MOST_STILLS = 3


@dataclass(frozen=True)
class Sample:
    """What was seen after a prompt: seconds since the start, the server's resident memory in MB, and the failure."""

    prompt: int
    kind: str
    seconds: float
    memory: float
    error: str | None


def prompts(server: ComfyServer, seed: int, count: int) -> Iterator[tuple[str, Graph]]:
    """Graphs and what to call them: stills and clips of sizes that never come twice in a row."""
    chance = random.Random(seed)
    for number in range(count):
        clip = chance.random() < 0.3
        largest = LARGEST_CLIP_SIDE if clip else SIDES[1]
        height, width = (chance.randint(SIDES[0], largest) for _ in range(2))
        batch = chance.randint(*CLIP_FRAMES) if clip else chance.randint(1, MOST_STILLS)
        image = graphs.picture(height, width, batch, seed=seed + number)
        build = graphs.portrait if clip or chance.random() < 0.5 else graphs.stages
        settings = {"mode": "clip"} if clip else {}
        yield f"{'clip' if clip else 'stills'} {batch}×{width}×{height}", build(server, image, **settings)


def soak(server: ComfyServer, seed: int, count: int, told_every: int = 10) -> list[Sample]:
    """Post `count` prompts one after the other, and tell of every tenth."""
    start, samples = time.monotonic(), []
    print(f"at the start {resident_memory(server.process.pid):5.0f} MB")
    for number, (kind, graph) in enumerate(prompts(server, seed, count), start=1):
        run = server.run(graph)
        memory = resident_memory(server.process.pid)
        samples.append(Sample(number, kind, time.monotonic() - start, memory, run.error))
        if run.error or number % told_every == 0:
            failed = f"  FAILED: {run.error}" if run.error else ""
            print(
                f"{number:5} prompts  {samples[-1].seconds:6.0f} s  {memory:5.0f} MB  {kind}{failed}",
                flush=True,
            )
    return samples


def resident_memory(process: int) -> float:
    """Physical memory that a process holds, in MB (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


def main() -> None:
    arguments = parse_arguments()
    checkout = chosen_checkout(arguments.version)
    with tempfile.TemporaryDirectory(prefix="delit-soak-") as folder:
        base = Path(folder, "comfyui")
        with ComfyServer(checkout, base, "copy", tuple(arguments.comfyui)) as server:
            samples = soak(server, arguments.seed, arguments.prompts)
    failed = [sample for sample in samples if sample.error]
    most = max(sample.memory for sample in samples)
    print(
        f"ComfyUI {checkout.version}: {len(samples)} prompts, {len(failed)} failed, {most:.0f} MB at the most"
    )
    if arguments.report:
        Path(arguments.report).write_text(json.dumps([sample.__dict__ for sample in samples], indent=1))
    if failed or (arguments.at_most and most > arguments.at_most):
        sys.exit(1)


def chosen_checkout(version: str | None) -> Checkout:
    """The ComfyUI of that version, or the newest that is there."""
    found = [checkout for checkout in find_checkouts() if version in (None, checkout.version)]
    if not found:
        sys.exit(f"✗ {HOW_TO_PROVIDE}")
    return found[-1]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed posts the same prompts (%(default)s)"
    )
    parser.add_argument("--at_most", type=float, help="MB that the server may hold (no limit)")
    parser.add_argument("--version", help="ComfyUI's version (the newest that is there)")
    parser.add_argument("--report", help="file for all samples, as JSON")
    parser.add_argument("comfyui", nargs="*", help="arguments for ComfyUI, after “--”")
    return parser.parse_args()


if __name__ == "__main__":
    main()
