"""What each part of the heads' loss buys: short equal runs from new heads, each without one part, and one with all.

    python -m benchmarks.losses --data_root data --test_root held_out --output losses
    python -m benchmarks.losses --data_root data --test_root held_out --output losses_on \
        --start_from delit_models/weights/delit_heads.safetensors --parts energy total lobes code

Short runs of new heads say little about the light, which is learned late; the second line trains heads on that know
it, and says what they lose without a part. All runs begin with the same weights and see the same variants in the same
order; the averaged heads are then measured by training.evaluate's path on pairs of the test split, spheres included.
The run with all parts is made once more with another seed: what it differs by is chance. A run that is done is kept in
the output folder, and the same command goes on with the next.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.checkpoint import load_wan_vae
from delit_models.pipeline import EMBEDDED_VAE, DelitPipeline, load_heads_of
from training.data.shards import open_pairs
from training.evaluation.measure import Evaluator
from training.evaluation.metrics import spread
from training.evaluation.tables import summarise
from training.heads.batches import LatentPair
from training.heads.losses import HeadsLoss, LossWeights
from training.heads.run import first_heads
from training.heads.run_data import RunData, open_data
from training.heads.settings import RunSettings
from training.heads.trainer import TrainConfig, Trainer

COLUMNS = (
    ("flat", "psnr", "Flat-lit, dB", 2),
    ("flat", "si_psnr", "si-PSNR, dB", 2),
    ("flat", "shading_left", "Shading left", 2),
    ("env", "irradiance_error", "Irradiance, stops", 2),
    ("env", "net_direction", "Net direction", 1),
    ("env", "mirror_si_rmse", "Mirror ball", 3),
    ("env", "matte_si_rmse", "Matte silver ball", 3),
    ("env", "diffuse_si_rmse", "Diffuse ball", 3),
)
PARTS = tuple(field.name for field in fields(LossWeights))
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Ablation:
    """A run's name, weights and seed."""

    name: str
    weights: LossWeights
    seed: int


def ablations(parts: Sequence[str]) -> list[Ablation]:
    """All parts, all but one of those named, and all again by chance."""
    everything = LossWeights()
    return [
        Ablation("all", everything, 0),
        *(Ablation(f"without {part}", replace(everything, **{part: 0.0}), 0) for part in parts),
        Ablation("all, other seed", everything, 1),
    ]


class Runs:
    """What all runs share: the VAE, the pairs that are measured, a seed's batches."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.engine = Accelerator(
            mixed_precision=arguments.mixed_precision, cpu=not torch.cuda.is_available()
        )
        self.vae = load_wan_vae(EMBEDDED_VAE, self.engine.device)
        self.test = open_pairs(arguments.test_root, "test")
        start = arguments.start_from
        self.start = load_heads_of(self.vae, EMBEDDED_VAE, start, self.engine.device) if start else None
        self._kept: dict[int, tuple[RunData, list[LatentPair]]] = {}

    def scores(self, ablation: Ablation) -> Scores:
        """Train and measure: means by method and metric."""
        config = TrainConfig(batch_size=self.arguments.batch_size, cool_down=0.3, seed=ablation.seed)
        data, batches = self._data(config)
        heads = deepcopy(first_heads(config, self.vae, data, self.start))
        loss = HeadsLoss(data.code, torch.tensor(heads.config.latent_std), weights=ablation.weights)
        trainer = Trainer(config, self.engine, heads, loss, self.arguments.steps)
        for batch in tqdm(batches, desc=ablation.name, unit="step", mininterval=10):
            trainer.train_step(batch.float())
        evaluator = Evaluator(DelitPipeline(self.vae, trainer.averaged_heads()), self.test)
        measured = (evaluator.score(number) for number in spread(len(self.test), self.arguments.pairs))
        summary = summarise(list(measured))
        return {method: {name: x.mean for name, x in metrics.items()} for method, metrics in summary.items()}

    def _data(self, config: TrainConfig) -> tuple[RunData, list[LatentPair]]:
        """A seed's data, and its batches in half precision: drawing them takes as long as learning from them does, so
        they are kept for the runs that follow."""
        if config.seed not in self._kept:
            settings = RunSettings(EMBEDDED_VAE, self.arguments.data_root, Path(self.arguments.output))
            data = open_data(config, settings, self.vae, self.engine)
            steps = tqdm(range(self.arguments.steps), desc="drawing variants", unit="step", mininterval=10)
            self._kept = {config.seed: (data, [data.source.batch(step).half() for step in steps])}
        return self._kept[config.seed]


def scores_of(ablation: Ablation, runs: Runs, folder: Path) -> Scores:
    """A run's scores, from its file where it has been made."""
    file = folder / f"{ablation.name.replace(', ', '_').replace(' ', '_')}.json"
    if file.is_file():
        return json.loads(file.read_text())
    scores = runs.scores(ablation)
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(scores, indent=1))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data_root", required=True, nargs="+", help="data sets to learn from")
    add("--test_root", required=True, help="data set whose test split is measured")
    add("--output", required=True, help="folder for the runs' scores")
    add("--steps", type=int, default=300, help="of each run (default 300)")
    add("--batch_size", type=int, default=8, help="pairs a step (default 8)")
    add("--pairs", type=int, default=72, help="pairs that are measured (default 72)")
    add("--start_from", help="heads to train on (default: new ones)")
    add(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        metavar="PART",
        help="left out in turn (default: each)",
    )
    add("--mixed_precision", default="no", choices=("no", "bf16", "fp16"), help="as in training (default no)")
    arguments = parser.parse_args()
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    runs = Runs(arguments)
    print("| Parts of the loss |" + "".join(f" {heading} |" for *_, heading, _ in COLUMNS))
    print("|---|" + "---|" * len(COLUMNS))
    for ablation in ablations(arguments.parts):
        scores = scores_of(ablation, runs, folder)
        cells = (f" {scores[method][metric]:.{decimals}f} |" for method, metric, _, decimals in COLUMNS)
        print(f"| {ablation.name} |" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
