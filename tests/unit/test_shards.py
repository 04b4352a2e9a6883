"""A data set through shards and back: the same pairs, the same bytes, nothing half-written, every damage told."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from delit_models.env_map_files import write_env_map
from delit_models.errors import DelitError
from delit_models.image_files import write_image
from tests.unit.filled_cache import contents, filled_cache
from tests.unit.patch_means import PatchMeans
from training import make_shards as command
from training.augment.variants import AugmentConfig
from training.command_line import run_command
from training.data.pairs import PairDataset
from training.data.shards import ShardDataset, open_pairs
from training.make_shards import make_shards
from training.vae.run import load_pictures

SIZE = 64


@pytest.fixture
def data_set(tmp_path) -> Path:
    """Four subjects in two lights, one of them for tests; some flat-lit pictures as TIFF, and an odd name."""
    root, lines = tmp_path / "data", []
    for number, subject in enumerate(("ann", "b.ö/b", "cid", "held_out")):
        folder, suffix = f"subjects/{number}", "tif" if number == 1 else "png"
        write_image(root / folder / f"flat.{suffix}", torch.rand(SIZE, SIZE, 3))
        write_image(root / folder / "mask.png", torch.rand(SIZE, SIZE, 1))
        write_image(root / folder / "albedo.png", torch.rand(SIZE, SIZE, 3))
        for light in ("left", "right"):
            write_image(root / folder / f"relit/{light}.png", torch.rand(SIZE, SIZE, 3))
            write_env_map(root / folder / f"env/{light}.exr", torch.rand(16, 32, 3) * 20)
            lines.append({
                "subject": subject, "env": light, "split": "test" if number == 3 else "train",
                "relit": f"{folder}/relit/{light}.png", "flat": f"{folder}/flat.{suffix}",
                "mask": f"{folder}/mask.png", "env_map": f"{folder}/env/{light}.exr",
                "albedo": f"{folder}/albedo.png", "person": {"tone_group": "dark"}, "light": {"kind": "window"},
            })  # fmt: skip
    # As several workers end: in any order.
    (root / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    (root / "dataset.json").write_text('{"format_version": 1, "seed": 4}')
    return root


@pytest.fixture
def shards(data_set, tmp_path) -> Path:
    make_shards(data_set, tmp_path / "shards", shard_size=4)
    return tmp_path / "shards"


def named(pairs) -> dict:
    return {(record.subject, record.env): pair for record, pair in zip(pairs.records, pairs, strict=True)}


def test_shards_hold_the_pairs_of_the_folder(data_set, shards):
    for split, count in (("train", 6), ("test", 2)):
        kept, packed = open_pairs(data_set, split), open_pairs(shards, split)
        assert isinstance(kept, PairDataset) and isinstance(packed, ShardDataset)
        assert len(kept) == len(packed) == count
        expected, found = named(kept), named(packed)
        assert expected.keys() == found.keys()
        for name, pair in expected.items():
            for part in ("relit", "flat", "mask", "env"):
                assert torch.equal(getattr(pair, part), getattr(found[name], part))
    record = open_pairs(shards, "test").records[0]
    assert (record.tone_group, record.light_kind) == ("dark", "window")


def test_pairs_are_read_in_any_order_by_any_process(shards):
    pairs = open_pairs(shards, "train")
    forward = list(pairs)
    fresh = pickle.loads(pickle.dumps(open_pairs(shards, "train")))
    for index in (5, 0, 3, 3):
        assert torch.equal(fresh[index].relit, forward[index].relit)
        assert torch.equal(fresh.light(index), forward[index].env)
    assert torch.equal(pickle.loads(pickle.dumps(ShardDataset(shards, "train"))).light(2), forward[2].env)
    with pytest.raises(IndexError):
        fresh[6]


def test_only_the_latest_pairs_are_in_memory(shards, monkeypatch):
    monkeypatch.setattr("training.data.shards._KEPT", 2)
    pairs = open_pairs(shards, "train")
    assert len([pairs[index] for index in range(6)]) == 6
    assert sorted(pairs._latest) == [4, 5]


def test_the_layout_is_webdatasets(shards):
    """Its own reader makes out the same samples."""
    webdataset = pytest.importorskip("webdataset", reason="pip install webdataset")
    urls = [str(path) for path in sorted(shards.glob("train-*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pilrgb"))
    pairs = open_pairs(shards, "train")
    assert [sample["__key__"] for sample in samples] == [record.key for record in pairs.records]
    for sample, pair, record in zip(samples, pairs, pairs.records, strict=True):
        assert sample["relit.png"].size == (SIZE, SIZE)
        pixel = tuple((pair.relit[:, 3, 5] * 255).round().int().tolist())
        assert sample["relit.png"].getpixel((5, 3)) == pixel
        assert sample["json"]["subject"] == record.subject
        assert {"mask.png", "env.exr"} <= sample.keys()


def test_equal_data_sets_give_equal_shards(data_set, shards, tmp_path):
    """Whatever the order of the index, and whenever they were made."""
    lines = (data_set / "index.jsonl").read_text().splitlines()
    (data_set / "index.jsonl").write_text("\n".join(sorted(lines)) + "\n")
    make_shards(data_set, tmp_path / "again", shard_size=4)
    names = sorted(path.name for path in shards.iterdir())
    assert names == ["dataset.json", "test-000000.tar", "train-000000.tar", "train-000001.tar"]
    for name in names:
        assert (shards / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_further_files_are_taken_along_when_asked_for(data_set, tmp_path):
    make_shards(data_set, tmp_path / "shards", also=("albedo",))
    with tarfile.open(tmp_path / "shards" / "test-000000.tar") as shard:
        names = [name.split(".", 1)[1] for name in shard.getnames()]
        first = json.load(shard.extractfile(shard.getmembers()[5]))
    assert names == ["relit.png", "flat.png", "mask.png", "env.exr", "albedo.png", "json"] * 2
    # Paths of the folder would lead nowhere.
    assert first == {
        "subject": "held_out", "env": "left", "split": "test", "person": {"tone_group": "dark"},
        "light": {"kind": "window"},
    }  # fmt: skip
    with pytest.raises(DelitError, match="“depth”"):
        make_shards(data_set, tmp_path / "more", also=("depth",))


def test_a_failure_leaves_nothing(data_set, tmp_path):
    (data_set / "subjects/3/mask.png").unlink()
    with pytest.raises(DelitError, match="held_out/left .* names no file as its “mask”"):
        make_shards(data_set, tmp_path / "shards")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_a_killed_run_left_is_no_obstacle(data_set, shards, tmp_path):
    partial = tmp_path / ".second.partial"
    partial.mkdir()
    (partial / "train-000007.tar").write_bytes(b"cut short")
    make_shards(data_set, tmp_path / "second")
    assert not partial.exists() and len(open_pairs(tmp_path / "second", "train")) == 6
    (tmp_path / "empty").mkdir()
    make_shards(data_set, tmp_path / "empty")


def test_a_folder_with_something_in_it_is_left_alone(data_set, shards):
    before = sorted(shards.iterdir())
    with pytest.raises(DelitError, match="not empty"):
        make_shards(data_set, shards)
    assert sorted(shards.iterdir()) == before
    with pytest.raises(DelitError, match="1 pair or more"):
        make_shards(data_set, shards, shard_size=0)


def damaged(shards: Path, kind: str) -> None:
    shard = shards / "train-000001.tar"
    content = shard.read_bytes()
    if kind == "missing":
        shard.unlink()
    elif kind == "no tar":
        shard.write_bytes(b"\x89PNG" * 500)
    elif kind == "after a pair":
        with tarfile.open(shard) as archive:
            cut = archive.getmembers()[5].offset
        shard.write_bytes(content[:cut])
    elif kind == "within a pair":
        with tarfile.open(shard) as archive:
            cut = archive.getmembers()[2].offset
        shard.write_bytes(content[:cut])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "lacks train-000001.tar"),
        ("no tar", "no plain .tar, or damaged"),
        ("after a pair", "holds 1 pairs, dataset.json says 2"),
        ("within a pair", "has no mask, env, json"),
    ],
)
def test_damaged_shards_are_refused(shards, kind, message):
    damaged(shards, kind)
    with pytest.raises(DelitError, match=message):
        open_pairs(shards, "train")
    assert len(open_pairs(shards, "test")) == 2


@pytest.mark.parametrize(
    "description",
    ['{"shards": 3}', '{"shards": {"train": {"train-000000.tar": "4"}}}', "[" * 100_000, "[1]", "\x00"],
)
def test_odd_descriptions_are_refused(shards, description):
    (shards / "dataset.json").write_text(description)
    with pytest.raises(DelitError, match=r"dataset\.json cannot be read"):
        open_pairs(shards, "train")


def test_shards_are_not_made_with_an_odd_description(data_set, tmp_path):
    (data_set / "dataset.json").write_text("[1]")
    with pytest.raises(DelitError, match=r"dataset\.json cannot be read"):
        make_shards(data_set, tmp_path / "new")
    assert not [path for path in tmp_path.iterdir() if "new" in path.name]


def rewritten(shard: Path, description: bytes) -> None:
    """The shard with all pairs described so."""
    with tarfile.open(shard) as archive:
        members = [(member.name, archive.extractfile(member).read()) for member in archive]
    with tarfile.open(shard, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            content = description if name.endswith(".json") else content
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("description", "told"),
    [
        (b"{" + b" " * 1_000_001 + b"}", "1,000,003 bytes long"),
        (b'{"subject": 3, "env": "left"}', "are no texts"),
        (b"[" * 100_000, "nested too deeply"),
    ],
    ids=["long", "no text", "deep"],
)
def test_odd_descriptions_of_pairs_are_refused(shards, description, told):
    rewritten(shards / "train-000000.tar", description)
    with pytest.raises(DelitError, match=told):
        open_pairs(shards, "train")


def test_a_damaged_picture_is_named(shards):
    pairs = open_pairs(shards, "train")
    record = pairs.records[4]
    with open(record.shard, "r+b") as file:
        file.seek(record.members["flat"].offset)
        file.write(b"\0" * 64)
    with pytest.raises(DelitError, match=r"0000004-cid-left\.flat\.png in .*train-000001\.tar"):
        pairs[4]
    with open(record.shard, "r+b") as file:
        file.truncate(record.members["flat"].offset + 10)
    with pytest.raises(DelitError, match="cut short"):
        pairs[4]


def test_shards_of_another_origin_need_no_description(shards):
    (shards / "dataset.json").unlink()
    assert len(open_pairs(shards, "train")) == 6
    with pytest.raises(DelitError, match="no shard of the “validation” split"):
        open_pairs(shards, "validation")


def test_neither_a_data_set_nor_shards(tmp_path):
    with pytest.raises(DelitError, match="no index.jsonl"):
        open_pairs(tmp_path, "train")


def test_training_reads_shards_as_it_reads_the_folder(data_set, shards, tmp_path):
    """In the same order, the same latents come out, augmented ones too."""
    lines = sorted((data_set / "index.jsonl").read_text().splitlines(), key=lambda line: line.split(", ")[:2])
    (data_set / "index.jsonl").write_text("\n".join(lines) + "\n")
    caches = [
        filled_cache(PatchMeans(), open_pairs(root, "train"), 3, AugmentConfig(), 0, tmp_path / "cache")
        for root in (data_set, shards)
    ]
    for one, other in zip(*map(contents, caches), strict=True):
        assert torch.equal(one, other)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_pair_of_another_shard_has_another_stamp(shards, keeps_time):
    pairs = open_pairs(shards, "train")
    before = [pairs.stamp(index) for index in range(6)]
    assert len(set(before)) == 6
    shard = pairs.records[4].shard
    status = shard.stat()
    if keeps_time:
        shard.write_bytes(shard.read_bytes() + bytes(512))
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns + (0 if keeps_time else 1_000_000_000)))
    changed = [pairs.stamp(index) != before[index] for index in range(6)]
    assert changed == [False] * 4 + [True] * 2


def test_the_vaes_training_takes_shards(data_set, shards):
    folder, packed = (load_pictures(open_pairs(root, "train")) for root in (data_set, shards))
    assert folder.shape == packed.shape == (6 + 3, 3, SIZE, SIZE)
    assert folder.float().sum() == packed.float().sum()


def test_the_command_says_what_it_made(data_set, tmp_path, monkeypatch, capsys):
    def run(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["make_shards", *map(str, arguments)])
        run_command(command.main, command.parse_arguments())

    run(data_set, "--output", tmp_path / "out" / "shards", "--shard_size", 4)
    assert capsys.readouterr().out.splitlines() == ["test: 2 pairs in 1 shards", "train: 6 pairs in 2 shards"]
    shutil.rmtree(data_set)
    with pytest.raises(SystemExit):
        run(data_set, "--output", tmp_path / "none")
    assert capsys.readouterr().err.strip().startswith("✗")
