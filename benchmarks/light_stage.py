"""Pairs per minute of the synthetic light stage: every picture rendered, against one light at a time.

    python -m benchmarks.light_stage [--num_envs 5 --olat 64 --image_size 256 --subjects 2 --variant llvm_ad_rgb]

A subject costs its set-up (person, scene, surface, flat-lit picture) once and then something for every environment.
Both are measured on the same subjects, files written, after one subject that only warms up; from them follow the pairs
per minute for any number of environments, and the number from which one light at a time is the faster.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from training.synth.dataset.folder import DatasetConfig
from training.synth.dataset.samples import render_subject
from training.synth.render.mitsuba_runtime import start_mitsuba


@dataclass(frozen=True)
class Cost:
    """Seconds: of a subject before its first pair, and of a pair."""

    subject: float
    pair: float

    def pairs_per_minute(self, num_envs: int) -> float:
        return 60 * num_envs / (self.subject + num_envs * self.pair)


def measure(mi: ModuleType, config: DatasetConfig, subjects: int) -> Cost:
    """Mean cost over subjects, one worker on all cores."""
    list(render_subject(mi, config, subjects, [0]))
    before_pairs, of_pairs = [], []
    for subject in range(subjects):
        ends = [time.perf_counter()]
        for _ in render_subject(mi, config, subject, list(range(config.num_envs))):
            ends.append(time.perf_counter())
        seconds = np.diff(ends)
        # The first pair comes with all that was prepared; it costs itself what the others cost.
        of_pairs.append(seconds[1:].mean())
        before_pairs.append(seconds[0] - of_pairs[-1])
    return Cost(float(np.mean(before_pairs)), float(np.mean(of_pairs)))


def break_even(direct: Cost, olat: Cost) -> str:
    """From how many environments a person on one light at a time is the faster."""
    if olat.pair >= direct.pair:
        return "never"
    return str(max(1, int(np.ceil((olat.subject - direct.subject) / (direct.pair - olat.pair)))))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.light_stage", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--num_envs", type=int, default=5, help="environments per person, 2 or more (default 5)")
    add("--olat", type=int, default=64, help="lights of the light stage (default 64)")
    add("--image_size", type=int, default=256, help="side of the pictures, pixels (default 256)")
    add(
        "--samples_per_pixel",
        type=int,
        default=DatasetConfig.samples_per_pixel,
        help="of a rendered picture (default %(default)s)",
    )
    add("--subjects", type=int, default=2, help="people to measure with (default 2)")
    add("--variant", help="Mitsuba's variant (default: the fastest that runs here)")
    options = parser.parse_args()
    mi = start_mitsuba(options.variant)
    num_envs = max(2, options.num_envs)
    costs = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, lights in (("direct", 0), (f"olat {options.olat}", options.olat)):
            config = DatasetConfig(
                Path(folder) / name,
                num_subjects=options.subjects + 1,
                num_envs=num_envs,
                image_size=options.image_size,
                samples_per_pixel=options.samples_per_pixel,
                olat=lights,
            )
            costs[name] = cost = measure(mi, config, options.subjects)
            print(
                f"{mi.variant()} {name}: {cost.subject:.2f} s a subject, {cost.pair:.2f} s a pair, "
                f"{cost.pairs_per_minute(num_envs):.1f} pairs/min at {num_envs} envs",
                flush=True,
            )
    direct, olat = costs.values()
    for count in (5, 10, 20, 40, 80, 160):
        rates = f"{direct.pairs_per_minute(count):.1f} direct, {olat.pairs_per_minute(count):.1f} one light at a time"
        print(f"{count:4d} envs a person: {rates} pairs/min")
    print(f"one light at a time is the faster from {break_even(direct, olat)} envs a person on")


if __name__ == "__main__":
    main()
