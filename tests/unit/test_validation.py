"""Measuring heads while they learn is measuring them with training.evaluate, and what they make is to be seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from delit_models.errors import DelitError
from delit_models.pipeline import DelitPipeline
from training.data.pairs import PairDataset
from training.data.sphere_pairs import write_sphere_pairs
from training.evaluation.measure import Evaluator, load_mean_env
from training.evaluation.metrics import mean_environment_of
from training.evaluation.tables import HEADLINES, TABLES, summarise
from training.heads.validation import Validation, headlines, score
from training.loop.log import RunLog


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spheres")
    write_sphere_pairs(folder, train_subjects=1, test_subjects=1)
    return folder


@pytest.fixture(scope="module")
def pipe() -> DelitPipeline:
    return DelitPipeline.embedded("cpu")


def validation(data_set: Path, kept: str = "test") -> Validation:
    learned, validated = (PairDataset(data_set, split) for split in ("train", "test"))
    if kept == "none":
        validated.records = []
    return Validation(validated, learned, mean_environment_of(learned), 48)


def test_figures_are_those_of_the_command(data_set, pipe):
    measured = validation(data_set).measure(pipe)
    pairs = PairDataset(data_set, "test")
    evaluator = Evaluator(pipe, pairs, load_mean_env(str(data_set)))
    expected = summarise([evaluator.score(index) for index in range(len(pairs))])
    assert measured["mean_env.irradiance_error"] > 0
    for name, value in measured.items():
        method, metric = name.split(".")
        assert value == expected[method][metric].mean, name
    assert list(headlines(measured)) == list(HEADLINES)
    left_out = {f"{method}.{metric}" for method in expected for metric in expected[method]} - {*measured}
    spheres = {metric.key for table in TABLES if "spheres" in table.key for metric in table.metrics}
    assert {name.split(".")[1] for name in left_out} == spheres


def test_better_pictures_and_better_light_score_higher():
    metrics = {"flat.psnr": 20.0, "env.irradiance_error": 0.5}
    assert score(metrics | {"flat.psnr": 21.0}) > score(metrics)
    assert score(metrics | {"env.irradiance_error": 0.4}) > score(metrics)


@pytest.mark.parametrize(("kept", "kind"), [("test", "validation/sphere1"), ("none", "training/sphere0")])
def test_a_few_pairs_are_seen_in_tensorboard(data_set, pipe, tmp_path, kept, kind):
    """Relit, flat and truth, both lights and their balls, side by side; learned pairs where none is kept aside."""
    own = validation(data_set, kept)
    assert bool(own.measure(pipe)) == (kept == "test")
    with RunLog(tmp_path) as log:
        for name, picture in own.pictures(pipe):
            log.picture(name, 7, picture)
    events = EventAccumulator(str(tmp_path), size_guidance={IMAGES: 0})
    events.Reload()
    assert events.Tags()["images"] == [f"{kind}_left", f"{kind}_right"]
    image = events.Images(f"{kind}_left")[0]
    assert (image.step, image.height, image.width) == (7, 256, 3 * 256 + 256 + 3 * 128)


def test_a_pair_that_cannot_be_measured_is_told_before_training(data_set):
    learned, validated = (PairDataset(data_set, split) for split in ("train", "test"))
    validated._latest[validated.records[0].mask] = torch.zeros(1, 64, 64, dtype=torch.uint8)
    with pytest.raises(DelitError, match="mask of sphere1/left is empty"):
        Validation(validated, learned, mean_environment_of(learned), 48)
