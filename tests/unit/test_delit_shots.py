"""Shot lists, sequences as clips, the index and the report: what is done, what is done again, what failed and why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from delit_models.color import srgb_to_linear
from delit_models.errors import DelitError
from delit_models.image_files import read_image, write_image
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.plate_files import read_plate, write_plate
from tests.unit.test_delit_command import picture, run
from training.batch import pieces
from training.batch.jobs import find_jobs
from training.batch.places import names_in, place_of, stored
from training.batch.shots import COLUMNS, read_shots


def write_frames(folder: Path, frames: int = 3, first: int = 1001) -> torch.Tensor:
    """Plates that a picture pans over, in linear light; [T, H, W, 3]."""
    still = srgb_to_linear(picture()) * 3
    plates = torch.stack([still.roll(2 * index, dims=1) for index in range(frames)])
    for index, pixels in enumerate(plates):
        write_plate(folder / f"plate.{first + index}.exr", pixels, pixel_type="float", coding="ACEScg")
    return plates


def index_lines(output: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in (output / "index.jsonl").read_text().splitlines()]
    assert len({line["name"] for line in lines}) == len(lines)
    return {line["name"]: line for line in lines}


def report(output: Path) -> dict:
    return json.loads((output / "report.json").read_text())


def test_a_sequence_is_steadied_as_the_pipeline_does_clips(monkeypatch, capsys, tmp_path):
    plates = write_frames(tmp_path / "shot")
    asked = (
        tmp_path / "shot",
        "--sequence",
        "--coding",
        "ACEScg",
        "--bit_depth",
        "float",
        "--gain",
        "--matte",
    )
    assert not run(monkeypatch, capsys, *asked, "--output", tmp_path / "out")
    options = DelitOptions(coding="ACEScg", clip=True)
    pipe = DelitPipeline.embedded()
    frames = list(pipe.stream(plates, options=options))
    still = pipe(plates[1:2], options=DelitOptions(coding="ACEScg")).gain[0]
    for number, frame in zip((1001, 1002, 1003), frames, strict=True):
        flat = read_plate(tmp_path / "out" / f"plate_flat.{number}.exr")
        torch.testing.assert_close(flat.pixels, frame.flat, rtol=1e-3, atol=1e-4)
        gain = read_plate(tmp_path / "out" / f"plate_gain.{number}.exr").pixels
        torch.testing.assert_close(gain, frame.gain, rtol=2e-3, atol=1e-3)
        assert (tmp_path / "out" / f"plate_matte.{number}.png").exists()
    assert (frames[1].gain - still).abs().max() > 2e-3, "a frame by itself is something else"
    assert [path.name for path in sorted((tmp_path / "out").glob("*env*"))] == [
        "plate_env.exr",
        "plate_env.png",
    ]
    assert list(index_lines(tmp_path / "out")) == ["plate"]


def test_numbered_pictures_are_a_clip_when_asked(tmp_path):
    for number in (1, 2):
        write_image(tmp_path / f"frame.{number:04}.png", picture(seed=number))
    assert [job.clip for job in find_jobs(tmp_path)] == [False, False]
    (clip,) = find_jobs(tmp_path, clips=True)
    assert clip.clip and len(clip.files) == 2 and clip.pieces() == [clip]


def test_masks_of_a_sequence_are_its_frames_own(monkeypatch, capsys, tmp_path):
    plates = write_frames(tmp_path / "shot", 2)
    for number in (1001, 1002):
        write_image(tmp_path / "masks" / f"m.{number}.png", torch.full((72, 72, 1), float(number == 1002)))
    asked = ("--coding", "ACEScg", "--bit_depth", "float", "--mask", tmp_path / "masks" / "m.####.png")
    for mode in ((), ("--sequence",)):
        out = tmp_path / f"out{len(mode)}"
        assert not run(monkeypatch, capsys, tmp_path / "shot", *asked, *mode, "--output", out)
        kept, changed = (read_plate(out / f"plate_flat.{number}.exr").pixels for number in (1001, 1002))
        torch.testing.assert_close(kept, plates[0])
        assert (changed - plates[1]).abs().max() > 0.05
    (tmp_path / "masks" / "m.1002.png").unlink()
    error = run(monkeypatch, capsys, tmp_path / "shot", *asked, "--output", tmp_path / "no")
    assert "no mask for frame 1002" in error


def test_a_shot_list_does_what_it_can_and_reports_the_rest(monkeypatch, capsys, tmp_path):
    write_frames(tmp_path / "plates" / "a")
    write_image(tmp_path / "still.png", picture())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows = [
        "shot,source,coding,gain,first,last",
        "a,plates/a/plate.####.exr,ACEScg,yes,1002,",
        "b,still.png,,,,",
        "",
        "c,nowhere.png,,,,",
        "d,broken.png,,,,",
    ]
    shots, out = tmp_path / "shots.csv", tmp_path / "out"
    shots.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    error = run(monkeypatch, capsys, "--shots", shots, "--output", out)
    assert "✗ c (line 5)" in error and "✗ d/d" in error and "2 of 4 failed" in error
    assert sorted(path.name for path in (out / "a").iterdir()) == [
        "a_env.exr", "a_env.png", "a_flat.1002.exr", "a_flat.1003.exr", "a_gain.1002.exr", "a_gain.1003.exr",
    ]  # fmt: skip
    assert (out / "b" / "b_flat.png").exists() and not (out / "d").exists()
    said = report(out)
    assert (said["asked"], said["done"], said["done_before"]) == (4, 2, 0)
    assert [(failure["shot"], failure["source"]) for failure in said["failed"]] == [
        ("c", "nowhere.png"), ("d", str(tmp_path / "broken.png")),
    ]  # fmt: skip
    begun = {name: "begun" in line for name, line in index_lines(out).items()}
    assert begun == {"a/a": False, "b/b": False, "d/d": True}

    kept = (out / "a" / "a_flat.1002.exr").stat().st_mtime_ns
    write_image(tmp_path / "broken.png", picture(seed=1))
    write_image(tmp_path / "nowhere.png", picture(seed=2))
    assert not run(monkeypatch, capsys, "--shots", shots, "--output", out)
    said = report(out)
    assert (said["asked"], said["done"], said["done_before"], said["failed"]) == (4, 2, 2, [])
    assert (out / "a" / "a_flat.1002.exr").stat().st_mtime_ns == kept


def test_what_has_changed_is_done_again_and_nothing_else(monkeypatch, tmp_path):
    """Without the heads: which pieces are taken up."""
    done = []
    monkeypatch.setattr("training.batch.plan.load_weights", lambda *_: None)
    monkeypatch.setattr("training.delit.load_weights", lambda *_: lambda piece: _make(piece, done))
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.png", picture(seed=ord(name)))

    def again(*more: str, source: str = "in") -> list[str]:
        done.clear()
        assert not run(monkeypatch, None, tmp_path / source, "--output", tmp_path / "out", *more)
        return sorted(done)

    assert again() == ["a", "b"] and again() == []
    os.utime(tmp_path / "in" / "b.png", ns=(0, 0))
    assert again() == ["b"] and again() == []
    assert again("--exposure", "1") == ["a", "b"] and again("--exposure", "1") == []
    (tmp_path / "out" / "a_env.exr").unlink()
    assert again("--exposure", "1") == ["a"]
    (tmp_path / "in").rename(tmp_path / "moved")
    assert again("--exposure", "1", source="moved") == []
    (tmp_path / "moved").rename(tmp_path / "in")
    index = tmp_path / "out" / "index.jsonl"
    known = {name: line["inputs"] for name, line in index_lines(tmp_path / "out").items()}
    stopped = [{"name": name, "inputs": inputs, "begun": True} for name, inputs in known.items()]
    index.write_text("".join(json.dumps(line) + "\n" for line in stopped))
    assert again("--exposure", "1") == [], "results of a run that was stopped before it said so"
    assert not any("begun" in line for line in index_lines(tmp_path / "out").values())
    with open(tmp_path / "out" / "index.jsonl", "a") as file:
        file.write('{"name": "a", "inp')
    assert again("--exposure", "1") == []
    assert again("--gain", "--exposure", "1") == ["a", "b"]
    assert len(index_lines(tmp_path / "out")) == 2


def test_files_that_no_run_has_made_are_not_replaced(monkeypatch, capsys, tmp_path):
    done = []
    monkeypatch.setattr("training.batch.plan.load_weights", lambda *_: None)
    monkeypatch.setattr("training.delit.load_weights", lambda *_: lambda piece: _make(piece, done))
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.png", picture(seed=ord(name)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_flat.png").write_text("a painter's own")
    asked = (tmp_path / "in", "--output", tmp_path / "out")
    assert "a_flat.png is there already" in run(monkeypatch, capsys, *asked)
    assert (tmp_path / "out" / "a_flat.png").read_text() == "a painter's own" and done == ["b"]
    assert not run(monkeypatch, capsys, *asked, "--overwrite")
    assert done == ["b", "a", "b"]


def _make(piece: pieces.Piece, done: list[str]) -> pieces.Outcome:
    done.append(piece.key)
    for path in piece.files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return pieces.Outcome()


def test_a_store_gives_what_a_folder_gives(monkeypatch, capsys, tmp_path):
    pytest.importorskip("upath", reason="universal_pathlib is not installed (scripts/set_up ray)")
    write_frames(tmp_path / "in", 2)
    bucket = place_of("memory://bucket")
    for path in (tmp_path / "in").iterdir():
        (bucket / "in" / path.name).write_bytes(path.read_bytes())
    asked = ("--coding", "ACEScg", "--gain")
    assert not run(monkeypatch, capsys, tmp_path / "in", "--output", tmp_path / "out", *asked)
    assert not run(monkeypatch, capsys, "memory://bucket/in", "--output", "memory://bucket/out", *asked)
    names = names_in(bucket / "out")
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    for name in names - {"index.jsonl", "report.json"}:
        assert (bucket / "out" / name).read_bytes()[:4] == (tmp_path / "out" / name).read_bytes()[:4]
    lines = (bucket / "out" / "index.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["plate.1001", "plate.1002"]

    def refuse(*_):
        raise AssertionError("all is done")

    monkeypatch.setattr("training.delit.load_weights", refuse)
    assert not run(monkeypatch, capsys, "memory://bucket/in", "--output", "memory://bucket/out", *asked)
    said = json.loads((bucket / "out" / "report.json").read_text())
    assert (said["asked"], said["done_before"]) == (2, 2)


def test_what_is_no_object_store_gets_its_name_last(tmp_path):
    pytest.importorskip("upath", reason="universal_pathlib is not installed (scripts/set_up ray)")
    place = place_of(f"file://{tmp_path}/new/a.txt")
    with pytest.raises(KeyError), stored(place) as path:
        path.write_text("half")
        raise KeyError
    assert not (tmp_path / "new").exists()
    with stored(place) as path:
        path.write_text("whole")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"] and place.read_text() == "whole"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("nothing://bucket", "--output", "out"), "nothing"),
        (("memory://empty", "--output", "out"), "not there"),
        (("--output", "out"), "Give what to delit"),
        (("a.png", "--shots", "shots.csv", "--output", "out"), "Give what to delit"),
        (("--shots", "nowhere.csv", "--output", "out"), "no shot list"),
        (("a.png", "--output", "out", "--workers", "2"), "--workers is 2; with --ray"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(monkeypatch, capsys, tmp_path, asked, told):
    if "://" in asked[0]:
        pytest.importorskip("upath", reason="universal_pathlib is not installed (scripts/set_up ray)")
    monkeypatch.chdir(tmp_path)
    error = run(monkeypatch, capsys, *asked)
    assert told in error and len(error.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_addresses_without_the_package_that_reads_them(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "upath", None)
    with pytest.raises(DelitError, match="pip install universal_pathlib"):
        place_of("s3://bucket/folder")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "lists no shot"),
        ("shot,source\n", "lists no shot"),
        ("shot,sauce\na,b\n", "“sauce” is no column"),
        ("shot\na\n", "no column “source”"),
        ("shot,source,shot\na,b,c\n", "twice"),
        ("shot,source\na,\n", "line 2: a has no source"),
        ("shot,source\n../a,b.png\n", "line 2: “../a” is no name"),
        ("shot,source\na,b.png\nA,c.png\n", "A is the shot of line 2 and of line 3"),
        ("shot,source,coding\na,b.png,log\n", "coding “log” is none of sRGB"),
        ("shot,source,gain\na,b.png,maybe\n", "gain “maybe” is neither yes nor no"),
        ("shot,source,first\na,b.png,-1\n", "first “-1” is no frame number"),
        ("shot,source\na,b.png,c\n", "3 cells for 2 columns"),
    ],
)
def test_lists_that_do_not_say_what_they_mean(tmp_path, text, told):
    path = tmp_path / "shots.csv"
    path.write_text(text)
    with pytest.raises(DelitError, match=told.replace("(", r"\(")):
        read_shots(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DelitError, match="UTF-8"):
        read_shots(path)


def test_every_column_is_an_option(monkeypatch, capsys, tmp_path):
    """A list of a spreadsheet that separates by semicolons, with every column."""
    cells = {
        "shot": "a", "source": "b.exr", "mask": "m.png", "first": "3", "last": "", "coding": "ACEScg",
        "exposure": "-1.5", "area": "picture", "outside": "black", "bit_depth": "float", "gain": "yes",
        "matte": "no", "working_size": "256", "orientation": "blender", "env_pooling": "frame", "sequence": "no",
    }  # fmt: skip
    assert set(cells) == set(COLUMNS)
    (tmp_path / "shots.csv").write_text(f"{';'.join(cells)}\n{';'.join(cells.values())}\n")
    (shot,) = read_shots(tmp_path / "shots.csv")
    assert shot.settings["exposure"] == -1.5 and shot.settings["matte"] is False and shot.first == 3
    from training import delit

    monkeypatch.setattr("sys.argv", ["delit", "x", "--output", "y"])
    assert set(shot.settings) <= set(vars(delit.parse_arguments()))


def test_hidden_files_are_not_delit(tmp_path):
    for name in (".a.x.png", "a.png"):
        write_image(tmp_path / name, picture())
    assert [job.name for job in find_jobs(tmp_path)] == ["a"]
    assert read_image(tmp_path / "a.png").shape == (72, 72, 3)


def test_results_of_two_files_never_have_one_name(tmp_path):
    for name in ("B.png", "b.jpg"):
        write_image(tmp_path / name, picture())
    # One file on Windows and macOS: capitals do not count there.
    assert [job.name for job in find_jobs(tmp_path)] == ["B_png", "b_jpg"]
    write_image(tmp_path / "b_jpg.png", picture())
    with pytest.raises(DelitError, match="b.jpg and b_jpg.png would both be written as b_jpg. Rename"):
        find_jobs(tmp_path)
