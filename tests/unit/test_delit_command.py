"""The command line: what is asked for is checked before work, nothing overwrites anything, what is done stays done."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from delit_models.color import srgb_to_linear
from delit_models.image_files import read_image, write_image
from delit_models.plate_files import read_plate, write_plate
from training import delit as command
from training.batch.index import INDEX_FILE, Index
from training.command_line import run_command


def run(monkeypatch, capsys, *arguments) -> str:
    """The command, in this process; its standard error where it refuses."""
    monkeypatch.setattr(sys, "argv", ["delit", *map(str, arguments)])
    try:
        run_command(command.delit, command.parse_arguments())
    except SystemExit as stopped:
        assert stopped.code
        return capsys.readouterr().err
    return ""


def picture(size: int = 72, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return smooth[0].permute(1, 2, 0) * 0.8


def write_clip(path: Path, frames: int = 6) -> None:
    """A small video with a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=44100)
        for index in range(frames):
            pixels = (picture(64, 1).roll(2 * index, dims=1) * 255).to(torch.uint8).contiguous().numpy()
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
        tone = np.sin(np.arange(44100 * frames // 25, dtype=np.float32) / 20)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode())


def test_files_of_one_name_do_not_overwrite_each_other(monkeypatch, capsys, tmp_path):
    write_image(tmp_path / "in" / "a.png", picture(seed=1))
    write_image(tmp_path / "in" / "a.jpg", picture(seed=2))
    write_image(tmp_path / "in" / "b.png", picture(seed=3))
    assert not run(monkeypatch, capsys, tmp_path / "in", "--output", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    for stem in ("a_png", "a_jpg", "b"):
        assert {f"{stem}_flat.png", f"{stem}_env.exr", f"{stem}_env.png", f"{stem}_compare.png"} <= names
    assert len(names - {"index.jsonl", "report.json"}) == 12


def test_what_is_done_is_left_and_what_is_missing_is_made(monkeypatch, capsys, tmp_path):
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.png", picture(seed=ord(name)))
    out = tmp_path / "out"
    assert not run(monkeypatch, capsys, tmp_path / "in", "--output", out)
    kept = (out / "a_flat.png").stat().st_mtime_ns
    (out / "b_env.exr").unlink()
    assert not run(monkeypatch, capsys, tmp_path / "in", "--output", out)
    assert (out / "a_flat.png").stat().st_mtime_ns == kept and (out / "b_env.exr").exists()
    assert not run(monkeypatch, capsys, tmp_path / "in", "--output", out, "--overwrite")
    assert (out / "a_flat.png").stat().st_mtime_ns != kept


def test_a_sequence_of_plates_keeps_numbers_range_and_headers(monkeypatch, capsys, tmp_path):
    for frame in (7, 8):
        pixels = srgb_to_linear(picture(seed=frame)) * 6
        write_plate(tmp_path / f"shot.{frame:04}.exr", pixels, coding="ACEScg", extra={"slate": f"s{frame}"})
    arguments = (tmp_path / "shot.####.exr", "--coding", "ACEScg", "--output", tmp_path / "out")
    options = ("--gain", "--matte", "--area", "picture", "--bit_depth", "float")
    assert not run(monkeypatch, capsys, *arguments, *options)
    for frame in (7, 8):
        source = read_plate(tmp_path / f"shot.{frame:04}.exr")
        flat = read_plate(tmp_path / "out" / f"shot_flat.{frame:04}.exr")
        gain = read_plate(tmp_path / "out" / f"shot_gain.{frame:04}.exr")
        assert flat.coding == "ACEScg" and ("slate", "string", f"s{frame}") in flat.header.attributes
        torch.testing.assert_close(flat.pixels, source.pixels * gain.pixels, rtol=2e-3, atol=1e-3)
        assert read_image(tmp_path / "out" / f"shot_matte.{frame:04}.png").shape == (72, 72, 1)


def test_sixteen_bits(monkeypatch, capsys, tmp_path):
    write_image(tmp_path / "a.png", picture(), bit_depth=16)
    assert not run(monkeypatch, capsys, tmp_path / "a.png", "--output", tmp_path / "out", "--bit_depth", "16")
    flat = read_plate(tmp_path / "out" / "a_flat.png").pixels
    assert (flat * 65535 % 257 > 1).any(), "no more than 8 bits"


def test_a_video_keeps_its_frames_rate_and_sound(monkeypatch, capsys, tmp_path):
    write_clip(tmp_path / "clip.mp4")
    assert not run(monkeypatch, capsys, tmp_path / "clip.mp4", "--output", tmp_path / "out")
    with av.open(str(tmp_path / "clip.mp4")) as before, av.open(str(tmp_path / "out/clip_flat.mp4")) as after:
        assert after.streams.video[0].average_rate == before.streams.video[0].average_rate
        assert sum(1 for _ in after.decode(video=0)) == 6
        sounds = []
        for container in (before, after):
            container.seek(0)
            sounds.append(np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1))
        np.testing.assert_array_equal(*sounds)
    assert (tmp_path / "out" / "clip_env.exr").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--mask", "masks"), "no mask for a.png"),
        (("--mask", "one.png"), "one mask for 3 files"),
        (("--mask", "nowhere.png"), "not there"),
        (("--coding", "ACEScg"), "sRGB-coded"),
        (("--gain",), "cannot be had of a video"),
        (("--outside", "transparent"), "cannot be had of a video"),
        (("--orientation", "sideways"), "invalid choice"),
    ],
)
def test_refused_before_any_work(monkeypatch, capsys, tmp_path, arguments, told):
    write_image(tmp_path / "in" / "a.png", picture())
    write_image(tmp_path / "in" / "b.png", picture())
    write_clip(tmp_path / "in" / "z.mp4", 2)
    write_image(tmp_path / "masks" / "b.png", picture()[..., :1])
    write_image(tmp_path / "one.png", picture()[..., :1])
    monkeypatch.chdir(tmp_path)
    error = run(monkeypatch, capsys, "in", "--output", "out", *arguments)
    assert told in error
    assert not (tmp_path / "out").exists()


def test_linear_plates_have_to_be_called_so(monkeypatch, capsys, tmp_path):
    write_plate(tmp_path / "plate.exr", srgb_to_linear(picture()))
    assert "--coding" in run(monkeypatch, capsys, tmp_path / "plate.exr", "--output", tmp_path / "out")


def test_masks_by_name(monkeypatch, capsys, tmp_path):
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.png", picture(seed=ord(name)))
        write_image(tmp_path / "masks" / f"{name}.png", torch.full((72, 72, 1), float(name == "b")))
    assert not run(
        monkeypatch, capsys, tmp_path / "in", "--mask", tmp_path / "masks", "--output", tmp_path / "out"
    )
    unchanged, changed = (
        (read_image(tmp_path / "out" / f"{name}_flat.png") - read_image(tmp_path / "in" / f"{name}.png"))
        .abs()
        .max()
        for name in "ab"
    )
    assert unchanged < 1 / 255 < changed


def test_an_index_that_was_cut_between_a_line_and_its_end_loses_neither(tmp_path):
    with Index(tmp_path) as index:
        index.add("first", "state", {})
    file = tmp_path / INDEX_FILE
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    with Index(tmp_path) as index:
        assert index.has("first", "state")
        index.add("second", "state", {})
    again = Index(tmp_path)
    assert again.line("first") and again.line("second")
