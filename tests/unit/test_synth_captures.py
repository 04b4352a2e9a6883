"""Captures of a real light stage: units, sides, masks, and what is wrong with a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from delit_models.color import srgb_to_linear
from delit_models.errors import DelitError
from delit_models.image_files import read_env_map, read_image, write_image
from delit_models.oiio_files import write_pixels
from training.data.pairs import read_index
from training.generate_toy_dataset import main
from training.synth.dataset.captures import find_captures, read_capture, write_capture
from training.synth.light.light_stage import even_stage

_ALBEDO = np.array([0.7, 0.5, 0.3])
_WHITE = np.array([2.0, 1.5, 1.0])
_SIZE = 64


def _ball() -> tuple[np.ndarray, np.ndarray]:
    """Normals [S, S, 3] and mask [S, S] of a ball that fills most of the picture, seen from far away."""
    across = (np.arange(_SIZE) + 0.5) / _SIZE * 2.4 - 1.2
    x, y = np.meshgrid(across, -across)
    inside = x**2 + y**2 < 1
    return np.stack([x, y, np.sqrt(np.maximum(1 - x**2 - y**2, 0))], -1), inside


def _write_captures(folder: Path, suffix: str = ".exr", count: int = 60, **description: object) -> Path:
    """A matte ball captured under `count` lamps of an uneven colour, as a stage would write it."""
    folder.mkdir(parents=True)
    normals, inside = _ball()
    lights = []
    for number, direction in enumerate(even_stage(count).directions):
        shade = np.maximum(normals @ direction, 0) * inside
        picture = shade[..., None] * _ALBEDO * _WHITE * (0.5 if suffix == ".png" else 1.0)
        name = f"light_{number:02d}{suffix}"
        if suffix == ".png":
            write_image(folder / name, torch.from_numpy(picture), bit_depth=16)
        else:
            write_pixels(folder / name, picture.astype(np.float32), ("R", "G", "B"), {}, lossless=True)
        white = (_WHITE * (0.5 if suffix == ".png" else 1.0)).tolist()
        lights.append({"file": name, "direction": (3 * direction).tolist(), "white": white})
    (folder / "lights.json").write_text(json.dumps({"format_version": 1, "lights": lights, **description}))
    return folder / "lights.json"


@pytest.mark.parametrize("suffix", [".exr", ".png"])
def test_captures_are_in_image_referred_units(tmp_path: Path, suffix: str) -> None:
    """Under uniform radiance 1 a matte ball shows its albedo, whatever the lamps' brightness and colour."""
    capture = read_capture(_write_captures(tmp_path / "anna", suffix), _SIZE)
    _, inside = _ball()
    assert capture.name == "anna"
    # The mask is what the lights reach: the ball, but for pixels that they graze.
    assert (capture.flat[..., 3] > 0)[inside].mean() > 0.99 and capture.flat[~inside].max() == 0
    np.testing.assert_allclose(
        capture.flat[inside][:, :3].mean(0), _ALBEDO, rtol=0.02, err_msg="flat-lit is the albedo"
    )
    # One lamp as wide as a light, straight from the camera: irradiance over pi, times albedo, at the ball's middle.
    lamp, environment = capture.transport.relight(np.full((128, 256, 3), 0.5, np.float32))
    np.testing.assert_allclose(lamp[_SIZE // 2, _SIZE // 2, :3], 0.5 * _ALBEDO, rtol=0.06)
    np.testing.assert_allclose(environment, 0.5, rtol=0.01)


def test_light_falls_on_the_side_that_it_comes_from(tmp_path: Path) -> None:
    capture = read_capture(_write_captures(tmp_path / "anna"), _SIZE)
    stage = capture.transport.stage
    for axis, side in ((0, np.s_[:, _SIZE // 2 :]), (1, np.s_[: _SIZE // 2])):
        weights = np.repeat(np.maximum(stage.directions[:, axis : axis + 1], 0) ** 4, 3, axis=1)
        picture = capture.transport.compose(weights)[..., :3].mean(-1)
        assert picture[side].sum() > 3 * (picture.sum() - picture[side].sum())


def test_pairs_are_composed_from_captures(tmp_path: Path) -> None:
    """The command, without a renderer: all subjects are found, and what is written is what the ball looks like."""
    for name in ("anna", "ben"):
        _write_captures(tmp_path / "stage" / name, field_of_view=25.0)
    output = tmp_path / "data"
    command = ["--output_dir", str(output), "--num_envs", "2", "--image_size", str(_SIZE), "--workers", "1"]
    command += ["--olat_captures", str(tmp_path / "stage"), "--test_fraction", "0"]
    assert main(command) == 0
    lines = [json.loads(line) for line in (output / "index.jsonl").read_text().splitlines()]
    assert [(line["subject"], line["env"], line["capture"]) for line in lines] == [
        ("s00000", "e000", "anna"),
        ("s00000", "e001", "anna"),
        ("s00001", "e000", "ben"),
        ("s00001", "e001", "ben"),
    ]
    assert len(read_index(output, "train")) == 4, "training reads it"
    flat = srgb_to_linear(read_image(output / lines[0]["flat"])).numpy()
    _, inside = _ball()
    np.testing.assert_allclose(flat[inside].mean(0), _ALBEDO, rtol=0.03)
    # The written environment is the light of the written picture: shade the ball from it.
    normals, _ = _ball()
    relit = srgb_to_linear(read_image(output / lines[2]["relit"])).numpy()
    radiance = read_env_map(output / lines[2]["env_map"]).radiance
    expected = _shaded(radiance, normals[inside])
    unclipped = (relit[inside] < 0.98).all(-1) & (expected < 0.98).all(-1)
    difference = np.abs(relit[inside] - expected)[unclipped]
    assert unclipped.sum() > 100 and difference.mean() < 0.05 * expected[unclipped].mean()
    assert main(command) == 0 and len((output / "index.jsonl").read_text().splitlines()) == 4


def test_captures_that_come_later_change_no_subject(tmp_path: Path) -> None:
    """A new capture that sorts first becomes the last subject; more lights of the old ones are of the old ones."""
    for name in ("ben", "carl"):
        _write_captures(tmp_path / "stage" / name, count=12)
    output = tmp_path / "data"
    command = ["--output_dir", str(output), "--image_size", str(_SIZE), "--workers", "1"]
    command += ["--olat_captures", str(tmp_path / "stage")]
    assert main([*command, "--num_envs", "1"]) == 0
    _write_captures(tmp_path / "stage" / "anna", count=12)
    assert main([*command, "--num_envs", "2"]) == 0
    lines = [json.loads(line) for line in (output / "index.jsonl").read_text().splitlines()]
    assert {(line["subject"], line["env"]): line["capture"] for line in lines} == {
        ("s00000", "e000"): "ben",
        ("s00001", "e000"): "carl",
        ("s00000", "e001"): "ben",
        ("s00001", "e001"): "carl",
        ("s00002", "e000"): "anna",
        ("s00002", "e001"): "anna",
    }


def test_captures_that_are_gone_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("ben", "carl"):
        _write_captures(tmp_path / "stage" / name, count=12)
    command = ["--output_dir", str(tmp_path / "data"), "--image_size", str(_SIZE), "--workers", "1"]
    command += ["--olat_captures", str(tmp_path / "stage"), "--num_envs", "1"]
    assert main(command) == 0
    (tmp_path / "stage" / "ben").rename(tmp_path / "elsewhere")
    assert main(command) == 1
    assert "lacks ben/lights.json, which this data set was begun with" in capsys.readouterr().err


def _shaded(radiance: torch.Tensor, normals: np.ndarray) -> np.ndarray:
    """The matte ball under a map, [N, 3]."""
    from delit_models.lat_long import direction_grid, solid_angles

    light = radiance * solid_angles(128, 256)[..., None]
    cosine = torch.from_numpy(normals).float() @ direction_grid(128, 256).reshape(-1, 3).T
    return (cosine.clamp(min=0) @ light.reshape(-1, 3)).numpy() * _ALBEDO / np.pi


def test_kept_transport_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    capture = read_capture(_write_captures(tmp_path / "anna", count=12), _SIZE)
    kept = tmp_path / "kept" / "subjects" / "s00000" / "olat"
    write_image(kept.parent / "mask.png", torch.from_numpy(capture.flat[..., 3:]))
    write_capture(kept, capture.transport, 31.0, mask="../mask.png")
    assert find_captures(tmp_path / "kept") == [kept / "lights.json"]
    again = read_capture(kept / "lights.json", _SIZE, capture.transport.stage)
    assert (again.name, again.field_of_view) == ("s00000", 31.0)
    np.testing.assert_array_equal(again.transport.pictures, capture.transport.pictures)
    np.testing.assert_array_equal(again.transport.coverage, capture.transport.coverage)


def test_a_mask_and_a_flat_picture_beside_the_captures_are_taken(tmp_path: Path) -> None:
    path = _write_captures(tmp_path / "anna", count=12, mask="matte.png", flat="flat.png")
    half = np.zeros((_SIZE, _SIZE, 1), np.float32)
    half[:, : _SIZE // 2] = 1
    write_image(path.parent / "matte.png", torch.from_numpy(half))
    write_image(path.parent / "flat.png", torch.full((_SIZE, _SIZE, 3), 0.5))
    capture = read_capture(path, _SIZE)
    np.testing.assert_array_equal(capture.flat[..., 3:], half)
    assert capture.flat[:, _SIZE // 2 :, :3].max() == 0
    assert capture.transport.pictures[:, :, _SIZE // 2 :].max() == 0
    np.testing.assert_allclose(capture.flat[:, : _SIZE // 2, :3], 0.2140, atol=0.002)


def test_wide_pictures_are_cut_to_their_middle(tmp_path: Path) -> None:
    path = _write_captures(tmp_path / "anna", count=6)
    wide = np.zeros((2 * _SIZE, 4 * _SIZE, 3), np.float32)
    wide[:, 2 * _SIZE : 3 * _SIZE] = 1.0
    for number in range(6):
        write_pixels(path.parent / f"light_{number:02d}.exr", wide, ("R", "G", "B"), {}, lossless=True)
    flat = read_capture(path, _SIZE).flat
    assert flat[:, _SIZE // 2 + 1 :, 3].min() == 1 and flat[:, : _SIZE // 2 - 1].max() == 0


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda text: text[:-5], "cannot be read"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 9'), "format version 9"),
        (lambda text: text.replace('"direction"', '"towards"', 1), "lacks its file or its direction"),
        (lambda text: text.replace("light_03", "light_99"), "light_99"),
        (lambda text: text.replace('"white": [2.0', '"white": [0.0', 1), "above 0"),
        (
            lambda text: text.replace('"white": [2.0, ', '"white": [', 1),
            r"light_00.exr is \[1.5, 1.0\]; .* R, G, B",
        ),
        (
            lambda text: text.replace('"white": [2.0, 1.5, 1.0]', '"white": "bright"', 1),
            "light_00.exr is bright",
        ),
        (lambda text: text.replace('"direction": [', '"direction": [1.0, ', 1), "direction of light 0 is"),
        (
            lambda text: re.sub(r'"direction": \[[^,]*, ', '"direction": [', text, count=1),
            "light 0 .* three numbers",
        ),
    ],
)
def test_broken_captures_are_refused(tmp_path: Path, break_it: object, message: str) -> None:
    path = _write_captures(tmp_path / "anna", count=6)
    whole = path.read_text()
    path.write_text(break_it(whole))
    assert path.read_text() != whole
    with pytest.raises(DelitError, match=rf"anna/.*{message}"):
        read_capture(path, _SIZE)


def test_a_folder_without_captures_and_too_many_subjects_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(DelitError, match="holds no captures"):
        find_captures(tmp_path)
    _write_captures(tmp_path / "stage" / "anna", count=6)
    command = ["--output_dir", str(tmp_path / "data"), "--num_envs", "1", "--num_subjects", "2"]
    assert main([*command, "--olat_captures", str(tmp_path / "stage")]) == 1
    assert "2 subjects were asked for" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
