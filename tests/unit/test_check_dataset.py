"""training.check_dataset: a sound data set passes, and every way of breaking one is told by the pair's name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from delit_models.env_map_files import read_env_map, write_env_map
from delit_models.errors import DelitError
from delit_models.image_files import read_image, write_image
from delit_models.oiio_files import write_pixels
from training import check_dataset
from training.data.check import check_folder
from training.data.pairs import PairDataset
from training.data.sphere_pairs import write_sphere_pairs
from training.make_shards import make_shards


@pytest.fixture
def data_set(tmp_path) -> Path:
    write_sphere_pairs(tmp_path)
    return tmp_path


def run(monkeypatch, root: Path, *more: object) -> None:
    monkeypatch.setattr("sys.argv", ["check_dataset", str(root), *map(str, more)])
    check_dataset.check_dataset(check_dataset.parse_arguments())


def edit_index(root: Path, edit: Callable[[list[dict]], None]) -> None:
    records = [json.loads(line) for line in (root / "index.jsonl").read_text().splitlines()]
    edit(records)
    (root / "index.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def write_raw_env(root: Path, pixels: np.ndarray) -> None:
    """Write sphere1's left map as it is, past the checks of write_env_map (and not compared: NaN equals nothing)."""
    path = root / "subjects/sphere1/env/left.exr"
    write_pixels(path, pixels.astype(np.float32), ("R", "G", "B"), {}, lossless=False)


def raw_env(value: float) -> np.ndarray:
    pixels = np.ones((32, 64, 3))
    pixels[3, 5, 1] = value
    return pixels


def scale_env(root: Path, factor: float) -> None:
    path = root / "subjects/sphere1/env/left.exr"
    write_env_map(path, read_env_map(path).radiance * factor)


def test_a_sound_data_set_passes_and_is_shown(monkeypatch, data_set, capsys):
    run(monkeypatch, data_set)
    printed = capsys.readouterr().out
    assert "✓ All 6 pairs are sound" in printed
    assert "train: 4 pairs of 2 subjects" in printed and "test: 2 pairs of 1 subjects" in printed
    sheet = read_image(data_set / "contact_sheet.jpg")
    assert sheet.std() > 0.05
    # Two columns of subjects: flat-lit, and two lights with their maps; no room for lights that are not there.
    assert sheet.shape[1] == 2 * (1 + 2 * 2) * 192


BREAKAGES = {
    "missing file": (
        lambda root: (root / "subjects/sphere1/relit/left.png").unlink(),
        "relit: there is no file",
    ),
    "damaged picture": (
        lambda root: (root / "subjects/sphere1/relit/left.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing"),
        "relit: .*cannot be read",
    ),
    "sizes": (
        lambda root: write_image(root / "subjects/sphere1/relit/left.png", torch.rand(64, 72, 3)),
        "relit 72×64, flat 64×64",
    ),
    "grey": (
        lambda root: write_image(root / "subjects/sphere1/relit/left.png", torch.rand(64, 64, 1)),
        "relit: it is grey",
    ),
    "black picture": (
        lambda root: write_image(root / "subjects/sphere1/relit/left.png", torch.zeros(64, 64, 3)),
        "relit: the subject is black",
    ),
    "burnt out": (
        lambda root: write_image(root / "subjects/sphere1/relit/left.png", torch.ones(64, 64, 3)),
        "relit: the subject is burnt out",
    ),
    "NaN": (lambda root: write_raw_env(root, raw_env(np.nan)), "1 values are NaN or infinite"),
    "infinite": (lambda root: write_raw_env(root, raw_env(np.inf)), "1 values are NaN or infinite"),
    "negative": (
        lambda root: write_raw_env(root, raw_env(-0.5)),
        r"1 values are negative \(the least is -0.5\)",
    ),
    "not 2:1": (lambda root: write_raw_env(root, np.ones((32, 62, 3))), "it is 62×32"),
    "black light": (lambda root: write_raw_env(root, np.zeros((32, 64, 3))), "no light at all"),
    "units too large": (lambda root: scale_env(root, 255), r"subject is 0\.00\d+ times"),
    "units too small": (lambda root: scale_env(root, 1 / 255), r"subject is 2\d\d times"),
}


@pytest.mark.parametrize(("break_it", "message"), BREAKAGES.values(), ids=BREAKAGES.keys())
def test_a_broken_pair_is_told_by_name_and_the_others_are_shown(
    monkeypatch, data_set, tmp_path, capsys, break_it, message
):
    break_it(data_set)
    with pytest.raises(DelitError, match="5 of 6 pairs are sound"):
        run(monkeypatch, data_set, "--contact_sheet", tmp_path / "sheet.png")
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("✗")]
    assert len(told) == 1 and told[0].startswith("✗ sphere1/left: ")
    assert re.search(message, told[0])
    assert (tmp_path / "sheet.png").is_file()


def test_an_env_that_is_no_hdr_is_told(data_set):
    write_image(data_set / "subjects/sphere1/env/left.png", torch.rand(32, 64, 3))

    def use_png(records: list[dict]) -> None:
        records[2]["env_map"] = "subjects/sphere1/env/left.png"

    edit_index(data_set, use_png)
    (finding,) = check_folder(data_set).findings
    assert finding.name == "sphere1/left" and "without high dynamic range" in finding.problem


def test_a_mask_without_a_subject_breaks_all_its_pairs(data_set):
    write_image(data_set / "subjects/sphere1/mask.png", torch.zeros(64, 64, 1))
    findings = check_folder(data_set).findings
    assert [f.name for f in findings] == ["sphere1/left", "sphere1/right"]
    assert all("mask: it covers 0%" in f.problem for f in findings)


def test_pairs_of_another_size_than_most_are_told(data_set, tmp_path):
    """Each is sound alone; training cannot stack them with the others."""
    write_sphere_pairs(tmp_path / "large", size=72)
    shutil.copytree(tmp_path / "large/subjects/sphere1", data_set / "subjects/sphere1", dirs_exist_ok=True)
    check = check_folder(data_set)
    assert [finding.name for finding in check.findings] == ["sphere1/left", "sphere1/right"]
    assert all("are 72×72, those of 4 of 6 pairs 64×64" in finding.problem for finding in check.findings)
    assert len(check.sound) == 4


def test_sides_that_the_vae_cannot_take_are_told_and_are_no_measure_for_others(data_set, tmp_path):
    """Most pairs are 100 pixels wide; the two that are 64 are the ones to train on."""
    write_sphere_pairs(tmp_path / "uneven", size=100)
    for subject in ("sphere0", "sphere2"):
        shutil.copytree(
            tmp_path / "uneven/subjects" / subject, data_set / "subjects" / subject, dirs_exist_ok=True
        )
    check = check_folder(data_set)
    assert [finding.name for finding in check.findings] == [
        "sphere0/left", "sphere0/right", "sphere2/left", "sphere2/right"
    ]  # fmt: skip
    assert all("are 100×100; their sides must be multiples of 8" in f.problem for f in check.findings)
    assert [record["subject"] for record in check.sound] == ["sphere1", "sphere1"]


def test_shards_are_refused_with_what_to_check_instead(data_set, tmp_path):
    make_shards(data_set, tmp_path / "shards")
    with pytest.raises(DelitError, match="shards holds shards.* Check the data set folder before packing"):
        check_folder(tmp_path / "shards")


def test_broken_lines_of_the_index_are_told_by_number(data_set):
    lines = (data_set / "index.jsonl").read_text().splitlines()
    without_mask = {key: value for key, value in json.loads(lines[0]).items() if key != "mask"}
    of_no_split = json.loads(lines[0]) | {"split": "validation"}
    lines += ['{"subject": ', "[1]", json.dumps(without_mask), json.dumps(of_no_split), lines[0]]
    (data_set / "index.jsonl").write_text("\n".join(lines) + "\n")
    check = check_folder(data_set)
    told = {f.name: f.problem for f in check.findings}
    assert list(told) == [f"index.jsonl line {number}" for number in range(7, 12)]
    for number, expected in zip(
        range(7, 12), ("no JSON", "object", "mask", "validation", "twice"), strict=True
    ):
        assert expected in told[f"index.jsonl line {number}"]
    assert len(check.sound) == 6


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{" + b" " * 1_000_001 + b"}\n", "Line 1 .* over 1,000,000 bytes"),
        (b'{"subject": "\xff"}\n', "Line 1 .* UTF-8"),
    ],
)
def test_an_index_that_is_no_text_is_refused(data_set, content, told):
    (data_set / "index.jsonl").write_bytes(content)
    for read in (check_folder, lambda root: PairDataset(root, "train")):
        with pytest.raises(DelitError, match=told):
            read(data_set)


def test_a_line_that_is_nested_without_end_is_a_finding(data_set):
    (data_set / "index.jsonl").write_text("[" * 100_000 + "\n")
    assert [f.problem for f in check_folder(data_set).findings] == [
        "it is no JSON; remove or repair the line"
    ]


def test_what_both_splits_share_is_told(data_set):
    def share(records: list[dict]) -> None:
        records[1]["split"] = "test"
        for record in (records[2], records[5]):
            record["light"] = {"kind": "hdri", "source": "studio"}
        for record in (records[0], records[4]):
            record["light"] = {"kind": "softbox", "source": "procedural"}

    edit_index(data_set, share)
    env = data_set / "subjects/sphere0/env/left.exr"
    env.with_name("copy.exr").write_bytes(env.read_bytes())
    (data_set / "subjects/sphere2/env/left.exr").write_bytes(env.read_bytes())
    told = [f.problem for f in check_folder(data_set).findings]
    assert told == [
        "the same subject is in both: sphere0/left (train) and sphere0/right (test)",
        "the same HDRI is in both: sphere1/left (train) and sphere2/right (test)",
        "the same environment map file is in both: sphere0/left (train) and sphere2/left (test)",
    ]


def test_a_folder_without_an_index_is_refused_and_an_empty_one_is_no_success(tmp_path):
    with pytest.raises(DelitError, match="has no index.jsonl"):
        check_folder(tmp_path)
    (tmp_path / "index.jsonl").write_text("")
    assert [f.problem for f in check_folder(tmp_path).findings] == ["it lists no pair"]
