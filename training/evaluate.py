"""Say how good a set of weights is, beside what doing nothing would score and the best that could be had.

    python -m training.evaluate --data_root data --report report
    python -m training.evaluate --data_root data --report report --weights runs/wan/delit_heads.safetensors \\
        --wan_vae_checkpoint wan_2.1_vae.safetensors

Prints the tables of the flat-lit image and of the light, and writes report.json, report.csv (a row a pair) and
report.html (tables and pictures) into the folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from delit_models.atomic_write import check_folder
from delit_models.errors import DelitError
from delit_models.heads_file import load_heads
from delit_models.image_files import write_image
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE, DelitPipeline
from training.data.shards import open_pairs
from training.evaluation.examples import example_picture
from training.evaluation.measure import Evaluator, load_mean_env, pick_examples
from training.evaluation.metrics import spread
from training.evaluation.page import GROUPED_TABLES, Example, write_page
from training.evaluation.picture_metrics import LPIPS_NETS, PerceptualDistance, load_lpips
from training.evaluation.report import About, write_csv, write_json
from training.evaluation.tables import TABLES, PairScores, Table, summarise

from .command_line import choose_device, run_command

EMBEDDED = "embedded"


def evaluate(arguments: argparse.Namespace) -> None:
    """Measure, print and write the report."""
    if arguments.limit is not None and arguments.limit < 1:
        raise DelitError(
            f"--limit is {arguments.limit}; give 1 or more pairs, or leave it out to measure all."
        )
    folder = Path(arguments.report)
    check_folder(folder)
    weights = EMBEDDED_HEADS if arguments.weights == EMBEDDED else Path(arguments.weights)
    pipe = DelitPipeline.load(arguments.wan_vae_checkpoint, weights, choose_device(arguments.device))
    pairs = open_pairs(arguments.data_root, arguments.split)
    notes: list[str] = []
    lpips = _lpips_or_note(arguments, notes)
    evaluator = Evaluator(pipe, pairs, _mean_env_or_note(arguments, notes), lpips)
    indices = spread(len(pairs), arguments.limit or len(pairs))
    scores = [evaluator.score(i) for i in tqdm(indices, desc="evaluating", unit="pair", mininterval=2)]
    about = _about(arguments, weights, notes)
    print_tables(scores, about)
    write_json(folder / "report.json", about, scores)
    write_csv(folder / "report.csv", scores)
    write_page(
        folder / "report.html",
        about,
        scores,
        _examples(folder, evaluator, indices, scores, arguments.pictures),
    )
    print(f"\nThe report is {folder / 'report.html'}, with report.json and report.csv beside it.")


def _examples(
    folder: Path, evaluator: Evaluator, indices: Sequence[int], scores: Sequence[PairScores], count: int
) -> list[Example]:
    """Write the pictures that the page shows."""
    examples = []
    for number, place in enumerate(pick_examples(scores, max(0, count))):
        name = f"pictures/{number:02d}.jpg"
        picture = example_picture(evaluator.run(indices[place]), evaluator.pairs[indices[place]])
        write_image(folder / name, picture)
        examples.append(Example(scores[place], name))
    return examples


def print_tables(scores: Sequence[PairScores], about: About) -> None:
    """The flat-lit image's and the light's table, and what is missing."""
    subjects = len({pair.subject for pair in scores})
    print(f"\n{about.weights}: means over {len(scores)} pairs of {subjects} subjects ({about.split})")
    for table in TABLES:
        if table.key in GROUPED_TABLES:
            print(f"\n{_as_text(table, scores)}")
    for note in about.notes:
        print(f"\n{note}")


def _as_text(table: Table, scores: Sequence[PairScores]) -> str:
    summary = summarise(scores)
    methods = [method for method in table.methods if method.key in summary]
    metrics = [metric for metric in table.metrics if metric.key in summary[methods[0].key]]
    name_width = max(len(table.title), *(len(method.label) for method in methods))
    headings = [f"{metric.label} {metric.unit}".strip() for metric in metrics]
    lines = [table.title.ljust(name_width) + "".join(f"  {heading}" for heading in headings)]
    for method in methods:
        cells = (
            f"{summary[method.key][metric.key].mean:.{metric.decimals}f}".rjust(len(heading) + 2)
            for metric, heading in zip(metrics, headings, strict=True)
        )
        lines.append(method.label.ljust(name_width) + "".join(cells))
    return "\n".join(lines)


def _lpips_or_note(arguments: argparse.Namespace, notes: list[str]) -> PerceptualDistance | None:
    try:
        return load_lpips(arguments.lpips_net, arguments.download_lpips)
    except DelitError as error:
        notes.append(f"LPIPS is left out: {error}.")
        return None


def _mean_env_or_note(arguments: argparse.Namespace, notes: list[str]) -> Tensor | None:
    mean_env = load_mean_env(arguments.data_root)
    if mean_env is None:
        notes.append(
            "The data set has no training pairs: the baseline of their mean environment is left out."
        )
    return mean_env


def _about(arguments: argparse.Namespace, weights: Path, notes: Sequence[str]) -> About:
    loaded = load_heads(weights)
    return About(
        weights=loaded.info.name,
        weights_sha256=loaded.sha256,
        vae=Path(arguments.wan_vae_checkpoint).name,
        data_root=Path(arguments.data_root).name,
        split=arguments.split,
        training=dict(loaded.info.training),
        notes=tuple(notes),
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", default=EMBEDDED, help="heads file, or “embedded” for the shipped ones (default)"
    )
    parser.add_argument(
        "--wan_vae_checkpoint", default=EMBEDDED_VAE, help="the heads' VAE (default: the embedded one)"
    )
    parser.add_argument("--data_root", required=True, help="data set folder, or folder of its shards")
    parser.add_argument("--report", required=True, help="folder for the report")
    parser.add_argument(
        "--split", choices=("test", "train"), default="test", help="pairs to measure on (test)"
    )
    parser.add_argument("--limit", type=int, help="measure so many pairs at the most, spread evenly (all)")
    parser.add_argument("--pictures", type=int, default=12, help="pairs shown in the page (12)")
    parser.add_argument(
        "--lpips_net", choices=LPIPS_NETS, default="alex", help="network whose features LPIPS compares (alex)"
    )
    parser.add_argument(
        "--download_lpips", action="store_true", help="fetch that network's weights if they are not here"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps… (cuda if there is one, else cpu)")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(evaluate, parse_arguments())
