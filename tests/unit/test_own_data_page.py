"""What docs/own_data.md tells people to do works as written."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
import torch

from delit_models.color import linear_to_srgb, srgb_to_linear
from training.augment.variants import target_picture
from training.data.check import check_folder
from training.data.index import PAIR_FILES
from training.data.shards import open_pairs
from training.make_shards import make_shards

PAGE = Path(__file__).parents[2] / "docs" / "own_data.md"
SIZE = 64


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def albedo_of(subject: str) -> torch.Tensor:
    return torch.tensor({"anna": [0.6, 0.4, 0.3], "ben": [0.2, 0.12, 0.1]}[subject])


def my_captures():
    """An even subject with a soft edge in front of a grey wall, in two uniform lights."""
    steps = torch.linspace(-1, 1, SIZE)
    mask = ((0.7 - torch.hypot(steps[:, None], steps[None, :])) * 8).clamp(0, 1)[..., None]
    for subject, split, lights in (("anna", "train", (0.4, 0.9)), ("ben", "test", (0.3, 0.8))):
        for env, radiance in zip(("dim", "bright"), lights, strict=True):
            shown = radiance * (mask * albedo_of(subject) + (1 - mask) * 0.5)
            flat = albedo_of(subject).expand(SIZE, SIZE, 3)
            light = torch.full((32, 64, 3), radiance)
            yield subject, env, split, linear_to_srgb(shown), linear_to_srgb(flat), mask, light


@pytest.fixture
def my_pairs(tmp_path, monkeypatch) -> Path:
    (example,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    runpy.run_path(str(tmp_path / "example.py"), {"my_captures": my_captures})
    return tmp_path / "my_pairs"


def test_the_example_writes_pairs_that_training_reads(my_pairs):
    pairs = open_pairs(my_pairs, "train")
    assert [(record.subject, record.env) for record in pairs.records] == [("anna", "dim"), ("anna", "bright")]
    pair = pairs[1]
    assert pair.relit.shape == (3, SIZE, SIZE)
    torch.testing.assert_close(pair.env, torch.full((3, 128, 256), 0.9), atol=1e-3, rtol=0)
    # The units of the page: what the subject shows is its flat-lit picture times the light.
    centre = (slice(None), SIZE // 2, SIZE // 2)
    torch.testing.assert_close(srgb_to_linear(pair.relit[centre]), 0.9 * srgb_to_linear(pair.flat[centre]),
                               atol=0.01, rtol=0)  # fmt: skip


def test_the_check_finds_nothing_wrong_with_the_example(my_pairs):
    check = check_folder(my_pairs)
    assert not check.findings and len(check.sound) == 4


def test_the_examples_soft_edges_are_what_training_takes_them_for(my_pairs):
    pair = open_pairs(my_pairs, "train")[1]
    wall, albedo = torch.tensor(0.9 * 0.5), albedo_of("anna")[:, None, None]
    expected = linear_to_srgb(pair.mask * albedo + (1 - pair.mask) * wall)
    torch.testing.assert_close(target_picture(pair), expected, atol=0.03, rtol=0)


def test_the_index_line_on_the_page_has_every_key(my_pairs):
    shown = json.loads(blocks("json")[0])
    written = json.loads((my_pairs / "index.jsonl").read_text().splitlines()[0])
    assert shown.keys() == written.keys() >= {"subject", "env", "split", *PAIR_FILES}
    for key in shown:
        assert f"| `{key}` |" in PAGE.read_text()


def test_its_shards_are_what_the_page_says(my_pairs, tmp_path):
    make_shards(my_pairs, tmp_path / "my_shards")
    record = open_pairs(tmp_path / "my_shards", "train").records[0]
    assert (record.shard.name, record.key) == ("train-000000.tar", "0000000-anna-bright")
