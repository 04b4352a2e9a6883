"""training.evaluate from end to end, on a tiny data set and untrained heads."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from delit_models.checkpoint import save_wan_vae
from delit_models.color import linear_to_srgb
from delit_models.errors import DelitError
from delit_models.heads import DelitConfig, DelitHeads, HeadsOutput
from delit_models.heads_file import HeadsInfo, save_heads, test_card
from delit_models.image_files import read_image
from delit_models.pipeline import DelitPipeline
from delit_models.wan_vae import WanVAE, WanVAEConfig
from training import evaluate
from training.data.pairs import Pair, PairDataset
from training.data.shards import open_pairs
from training.data.sphere_pairs import write_sphere_pairs
from training.evaluation.measure import Evaluator, load_mean_env
from training.evaluation.metrics import mean_environment, psnr
from training.evaluation.tables import PairScores, Summary, group_by, summarise
from training.make_shards import make_shards


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> tuple[Path, Path]:
    """A VAE and heads for it, both untrained: the VAE's file and the heads'."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    vae = WanVAE(WanVAEConfig(dim=8)).eval()
    save_wan_vae(folder / "vae.safetensors", vae, torch.float32, {})
    info = HeadsInfo("Untrained <heads>", "vae.safetensors", "Apache-2.0", {"steps": 0})
    with torch.inference_mode():
        probe = vae.encode(test_card())
    heads = DelitHeads(DelitConfig(working_size=64))
    save_heads(folder / "heads.safetensors", heads, probe, info)
    return folder / "vae.safetensors", folder / "heads.safetensors"


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("spheres")
    write_sphere_pairs(root, test_subjects=2)
    lines = [json.loads(line) for line in (root / "index.jsonl").read_text().splitlines()]
    for line in lines:
        if line["subject"] == "sphere2":
            line |= {"person": {"tone_group": "deep"}, "light": {"kind": line["env"]}}
    (root / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def run(monkeypatch, weights: tuple[Path, Path], data_set: Path, report: Path, *more: object) -> None:
    monkeypatch.setenv("TORCH_HOME", str(report / "no weights here"))
    vae, heads = weights
    arguments = ("--weights", heads, "--wan_vae_checkpoint", vae, "--data_root", data_set, "--report", report)
    monkeypatch.setattr("sys.argv", ["evaluate", *map(str, (*arguments, "--device", "cpu", *more))])
    evaluate.evaluate(evaluate.parse_arguments())


def strict_json(path: Path) -> dict:
    """JSON as its grammar has it: NaN and Infinity are refused."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in {path.name}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_report_has_every_pair_and_group_beside_its_baselines(
    monkeypatch, weights, data_set, tmp_path, capsys
):
    run(monkeypatch, weights, data_set, tmp_path, "--pictures", 2)
    printed = capsys.readouterr().out
    assert (
        "Untouched input" in printed and "LPIPS is left out" in printed and "4 pairs of 2 subjects" in printed
    )

    report = strict_json(tmp_path / "report.json")
    assert report["pairs"] == 4
    assert {"input", "flat", "flat_vae", "flat_ceiling", "env", "mean_env", "env_ceiling"} == set(
        report["overall"]
    )
    assert "lpips" not in report["overall"]["flat"], "what was not measured is left out, not zero"
    assert report["overall"]["env_ceiling"]["irradiance_error"]["mean"] < 0.01
    assert report["by_tone_group"]["deep"]["pairs"] == report["by_tone_group"]["unknown"]["pairs"] == 2
    assert report["by_light_kind"]["left"]["pairs"] == 1

    rows = list(csv.DictReader((tmp_path / "report.csv").open(encoding="utf-8")))
    assert [(row["subject"], row["env"]) for row in rows] == [
        ("sphere2", "left"), ("sphere2", "right"), ("sphere3", "left"), ("sphere3", "right"),
    ]  # fmt: skip
    mean = sum(float(row["flat.psnr"]) for row in rows) / len(rows)
    assert report["overall"]["flat"]["psnr"]["mean"] == pytest.approx(mean, abs=1e-3)

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Untrained &lt;heads&gt;" in page and "LPIPS is left out" in page
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert len(pictures) == 2
    for picture in pictures:
        assert read_image(tmp_path / picture).shape == (256, 3 * 256 + 256 + 3 * 128, 3)


def test_scores_are_those_of_the_pair(weights, data_set):
    pipe = DelitPipeline.load(*weights)
    pairs = PairDataset(data_set, "test")
    evaluator = Evaluator(pipe, pairs, load_mean_env(data_set))
    scores, pair = evaluator.score(1), pairs[1]
    assert (scores.tone_group, scores.light_kind) == ("deep", "right")
    expected = psnr(pair.relit[None], pair.flat[None], pair.mask[None]).item()
    assert scores.scores["input"]["psnr"] == pytest.approx(expected, abs=1e-4)
    # What is measured is what a user gets from the pipeline.
    used = pipe(pair.relit.permute(1, 2, 0)[None]).flat.permute(0, 3, 1, 2)
    torch.testing.assert_close(evaluator.run(1).pictures["flat"], used)


class LosslessVae(torch.nn.Module):
    """A codec that loses nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.device_holder = torch.nn.Parameter(torch.zeros(()))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pixel_unshuffle(x, 8)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pixel_shuffle(z, 8)


class SoftPairs:
    """One pair that is flat-lit already: a grey blur on a red wall, and the same blur on black."""

    records = [SimpleNamespace(subject="blur", env="even", tone_group="unknown", light_kind="unknown")]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Pair:
        across = torch.linspace(-1, 1, 64)
        mask = (1.5 - 2 * (across[:, None].square() + across.square()).sqrt()).clamp(0, 1)[None]
        subject, wall = 0.4 * mask, torch.tensor((0.8, 0.1, 0.1)).reshape(3, 1, 1)
        relit = linear_to_srgb(subject + (1 - mask) * wall)
        return Pair(relit, linear_to_srgb(subject).expand(3, -1, -1), mask, torch.ones(3, 128, 256))


def heads_that_change_nothing(z: torch.Tensor) -> HeadsOutput:
    return HeadsOutput(z, torch.zeros(1, 4, 128, 256), torch.ones_like(z[:, :1]))


def test_soft_edges_are_compared_in_front_of_their_background():
    """Heads are trained to leave the background, so pictures that are right all over have no error at soft edges."""
    vae, pairs = LosslessVae(), SoftPairs()
    pipe = DelitPipeline(vae, heads_that_change_nothing, DelitConfig(working_size=64))
    scores = Evaluator(pipe, pairs).score(0).scores
    for method in ("input", "flat_vae", "flat", "flat_ceiling"):
        assert scores[method]["psnr"] > 60 and scores[method]["ssim"] > 0.999, method


def test_without_training_pairs_the_mean_light_is_left_out(monkeypatch, weights, tmp_path, capsys):
    write_sphere_pairs(tmp_path / "data", train_subjects=0, test_subjects=1)
    run(monkeypatch, weights, tmp_path / "data", tmp_path / "report", "--pictures", 0, "--limit", 1)
    assert "mean environment is left out" in capsys.readouterr().out
    report = strict_json(tmp_path / "report" / "report.json")
    assert report["pairs"] == 1 and "mean_env" not in report["overall"]
    assert not (tmp_path / "report" / "pictures").exists()


def test_the_mean_light_is_that_of_the_training_pairs(data_set, tmp_path):
    pairs = PairDataset(data_set, "train")
    expected = mean_environment(torch.stack([pairs.light(index) for index in range(len(pairs))]))
    make_shards(data_set, tmp_path / "shards")
    for root in (data_set, tmp_path / "shards"):
        torch.testing.assert_close(load_mean_env(root), expected.permute(1, 2, 0))


def test_only_a_data_set_without_training_pairs_has_no_mean_light(data_set, tmp_path):
    write_sphere_pairs(tmp_path / "data", train_subjects=0, test_subjects=1)
    make_shards(tmp_path / "data", tmp_path / "shards")
    assert load_mean_env(tmp_path / "data") is None
    assert load_mean_env(tmp_path / "shards") is None
    with pytest.raises(DelitError, match="is no data set"):
        load_mean_env(tmp_path / "elsewhere")


def test_training_pairs_that_cannot_be_read_are_told(data_set, tmp_path):
    make_shards(data_set, tmp_path / "shards")
    (tmp_path / "shards" / "train-000000.tar").unlink()
    with pytest.raises(DelitError, match="lacks train-000000.tar"):
        load_mean_env(tmp_path / "shards")
    folder = shutil.copytree(data_set, tmp_path / "data")
    (folder / "subjects" / "sphere0" / "env" / "left.exr").unlink()
    with pytest.raises(DelitError, match="left.exr"):
        load_mean_env(folder)
    with (folder / "index.jsonl").open("a") as index:
        index.write("{cut sho")
    with pytest.raises(DelitError, match="Line 9 of .*index.jsonl"):
        load_mean_env(folder)


def test_shards_are_measured_like_the_folder_they_were_made_of(weights, data_set, tmp_path):
    make_shards(data_set, tmp_path)
    pipe = DelitPipeline.load(*weights)
    of_folder, of_shards = (
        Evaluator(pipe, open_pairs(root, "test")).score(0) for root in (data_set, tmp_path)
    )
    assert (
        (of_shards.subject, of_shards.tone_group)
        == (of_folder.subject, of_folder.tone_group)
        == ("sphere2", "deep")
    )
    assert of_shards.scores == of_folder.scores


def test_a_limit_of_nothing_and_an_empty_mask_are_refused(monkeypatch, weights, data_set, tmp_path):
    with pytest.raises(DelitError, match="--limit is 0"):
        run(monkeypatch, weights, data_set, tmp_path, "--limit", 0)
    pairs = PairDataset(data_set, "test")
    pairs._latest[pairs.records[0].mask] = torch.zeros(1, 64, 64, dtype=torch.uint8)
    with pytest.raises(DelitError, match="mask of sphere2/left is empty"):
        Evaluator(DelitPipeline.load(*weights), pairs).score(0)


def test_means_leave_out_what_has_no_value():
    pairs = [
        PairScores("a", "e", tone, "hdri", {"env": {"peak_direction": value}})
        for tone, value in (("deep", 10.0), ("deep", float("nan")), ("fair", 40.0), ("deep", 13.0))
    ]
    assert summarise(pairs) == {"env": {"peak_direction": Summary(21.0, 13.0, 3)}}
    assert [(name, len(own)) for name, own in group_by(pairs, "tone_group").items()] == [
        ("deep", 3),
        ("fair", 1),
    ]
    assert Summary.of([float("nan")]).count == 0
