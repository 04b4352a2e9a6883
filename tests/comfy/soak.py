"""A long service: prompt after prompt of changing sizes, stills and clips, at a real ComfyUI server.

    scripts/soak --prompts 1000 --at_most 1500
    scripts/soak --prompts 1000 --at_most 1500 --largest 256    # as many prompts in a tenth of the time
    scripts/soak --in_process --prompts 60                      # what holds the memory, without a server

Tells how much memory the server holds on the way and how many prompts failed. The exit status is 1 where one failed,
or where the server held more than `--at_most` MB at the end of a prompt. What the system's own settings do can be tried
in the environment: MALLOC_ARENA_MAX=2, ONEDNN_PRIMITIVE_CACHE_CAPACITY=16; ComfyUI's own after “--”: -- --cache-none.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.comfy import graphs
from tests.comfy.comfyui import HOW_TO_PROVIDE, REPOSITORY, Checkout, ComfyServer, Graph, find_checkouts

SMALLEST_SIDE, LARGEST_SIDE = 64, 640
CLIP_FRAMES = (2, 9)
LARGEST_CLIP_SIDE = 256
MOST_STILLS = 3
# However slow the machine is: what is looked for are failures and growth.
PROMPT_SECONDS = 3600


@dataclass(frozen=True)
class Sample:
    """What was seen after a prompt: seconds since the start, the server's resident memory in MB, and the failure."""

    prompt: int
    kind: str
    seconds: float
    memory: float
    error: str | None


@dataclass(frozen=True)
class Work:
    """A prompt's pictures: a clip's frames, or stills. `stages` takes stills through every stage's own node."""

    clip: bool
    batch: int
    height: int
    width: int
    stages: bool

    def __str__(self) -> str:
        return f"{'clip' if self.clip else 'stills'} {self.batch}×{self.width}×{self.height}"


def works(seed: int, count: int, largest: int) -> Iterator[Work]:
    """Stills and clips of sizes that never come twice in a row."""
    chance = random.Random(seed)
    for _ in range(count):
        clip = chance.random() < 0.3
        longest = min(LARGEST_CLIP_SIDE, largest) if clip else largest
        height, width = (chance.randint(SMALLEST_SIDE, longest) for _ in range(2))
        batch = chance.randint(*CLIP_FRAMES) if clip else chance.randint(1, MOST_STILLS)
        yield Work(clip, batch, height, width, stages=not clip and chance.random() >= 0.5)


def prompt(server: ComfyServer, work: Work, seed: int) -> Graph:
    image = graphs.picture(work.height, work.width, work.batch, seed=seed)
    if work.stages:
        return graphs.stages(server, image)
    return graphs.portrait(server, image, **({"mode": "clip"} if work.clip else {}))


def soak(server: ComfyServer, seed: int, count: int, largest: int, told_every: int = 10) -> list[Sample]:
    """Post `count` prompts one after the other, and tell of every tenth."""
    start, samples = time.monotonic(), []
    print(f"at the start {resident_memory(server.process.pid):5.0f} MB", flush=True)
    for number, work in enumerate(works(seed, count, largest), start=1):
        run = server.run(prompt(server, work, seed + number), seconds=PROMPT_SECONDS)
        memory = resident_memory(server.process.pid)
        samples.append(Sample(number, str(work), time.monotonic() - start, memory, run.error))
        if run.error or number % told_every == 0:
            failed = f"  FAILED: {run.error}" if run.error else ""
            print(
                f"{number:5} prompts  {samples[-1].seconds:6.0f} s  {memory:5.0f} MB  {work}{failed}",
                flush=True,
            )
    return samples


def tell_parts(checkout: Checkout, arguments: argparse.Namespace) -> None:
    """The same pictures without a server, with and without giving memory back: what is held, and by whom."""
    chosen = works(arguments.seed, arguments.prompts, arguments.largest)
    listed = json.dumps([(work.clip, work.batch, work.height, work.width) for work in chosen])
    script = Path(__file__).with_name("soak_parts.py")
    for way in ("keep", "give_back"):
        with tempfile.TemporaryDirectory(prefix="delit-soak-") as folder:
            pack = Path(folder, "custom_nodes", "delit")
            pack.parent.mkdir()
            pack.symlink_to(REPOSITORY, target_is_directory=True)
            command = [sys.executable, script, checkout.folder, folder, pack, way]
            subprocess.run(list(map(str, command)), cwd=checkout.folder, input=listed, text=True, check=True)


def resident_memory(process: int) -> float:
    """Physical memory that a process holds, in MB (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


def main() -> None:
    arguments = parse_arguments()
    checkout = chosen_checkout(arguments.version)
    if arguments.in_process:
        return tell_parts(checkout, arguments)
    with tempfile.TemporaryDirectory(prefix="delit-soak-") as folder:
        base = Path(folder, "comfyui")
        with ComfyServer(checkout, base, "copy", tuple(arguments.comfyui)) as server:
            samples = soak(server, arguments.seed, arguments.prompts, arguments.largest)
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
    parser.add_argument(
        "--largest", type=int, default=LARGEST_SIDE, help="longest side in pixels (%(default)s)"
    )
    parser.add_argument(
        "--in_process", action="store_true", help="what holds the memory, without a server (Linux)"
    )
    parser.add_argument("--at_most", type=float, help="MB that the server may hold (no limit)")
    parser.add_argument("--version", help="ComfyUI's version (the newest that is there)")
    parser.add_argument("--report", help="file for all samples, as JSON")
    parser.add_argument("comfyui", nargs="*", help="arguments for ComfyUI, after “--”")
    return parser.parse_args()


if __name__ == "__main__":
    main()
