"""training.check_dataset on albedo, normals and depth: what the generator writes passes, all else is told by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from delit_models.image_files import write_image
from delit_models.oiio_files import write_pixels
from training.data import check as dataset_check
from training.data.check import check_folder
from training.data.sphere_pairs import write_sphere_pairs
from training.data.truth_check import TRUTH_FILES
from training.synth.render.truth import TRUTH_CONVENTIONS, SurfaceTruth, write_truth

SIZE = 64
FOLDER = "subjects/sphere1"


def surface(seed: int) -> tuple[SurfaceTruth, np.ndarray]:
    """A disc of random colours, directions and distances, and its mask [S, S, 1]."""
    rng = np.random.default_rng(seed)
    steps = np.linspace(-1, 1, SIZE)
    inside = np.hypot(steps[:, None], steps[None, :]) < 0.8
    normals = rng.normal(size=(SIZE, SIZE, 3))
    normals *= inside[..., None] / np.linalg.norm(normals, axis=-1, keepdims=True)
    albedo = rng.uniform(size=(SIZE, SIZE, 3)) * inside[..., None]
    depth = rng.uniform(1, 3, size=(SIZE, SIZE)) * inside
    return SurfaceTruth(albedo, normals, depth), inside[..., None].astype(np.float32)


@pytest.fixture
def data_set(tmp_path) -> Path:
    """Three subjects in two lights each, with the files that the generator writes of their surfaces."""
    write_sphere_pairs(tmp_path, size=SIZE)
    files = {
        f"sphere{number}": write_truth(tmp_path, f"subjects/sphere{number}", *surface(number))
        for number in range(3)
    }
    edit_index(tmp_path, lambda records: [record.update(files[record["subject"]]) for record in records])
    return tmp_path


def edit_index(root: Path, edit: Callable[[list[dict]], object]) -> None:
    records = [json.loads(line) for line in (root / "index.jsonl").read_text().splitlines()]
    edit(records)
    (root / "index.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_what_the_generator_writes_is_sound(data_set):
    check = check_folder(data_set)
    assert check.findings == [] and len(check.sound) == 6
    assert set(TRUTH_FILES) == set(TRUTH_CONVENTIONS)


def write_raw(root: Path, name: str, pixels: np.ndarray) -> None:
    """Write one of sphere1's files as it is (and not compared: NaN equals nothing)."""
    channels = {1: ("Z",), 2: ("R", "G"), 3: ("R", "G", "B")}[pixels.shape[2]]
    write_pixels(root / FOLDER / name, pixels.astype(np.float32), channels, {}, lossless=False)


def constant(*values: float, odd: float | None = None, size: int = SIZE) -> np.ndarray:
    """[size, size, len(values)]; `odd` is one pixel's first value."""
    pixels = np.broadcast_to(np.array(values, np.float64), (size, size, len(values))).copy()
    if odd is not None:
        pixels[3, 5, 0] = odd
    return pixels


def use_png_normals(root: Path) -> None:
    write_image(root / FOLDER / "normals.png", torch.ones(SIZE, SIZE, 3))

    def name_it(records: list[dict]) -> None:
        for record in records[2:4]:
            record["normals"] = f"{FOLDER}/normals.png"

    edit_index(root, name_it)


BREAKAGES = {
    "missing": (
        lambda root: (root / FOLDER / "depth.exr").unlink(),
        "depth: there is no file subjects/sphere1",
    ),
    "damaged picture": (
        lambda root: (root / FOLDER / "albedo.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing"),
        "albedo: .*cannot be read",
    ),
    "damaged EXR": (
        lambda root: (root / FOLDER / "normals.exr").write_bytes(b"\x76\x2f\x31\x01nothing"),
        "normals: .*cannot be read",
    ),
    "grey albedo": (
        lambda root: write_image(root / FOLDER / "albedo.png", torch.rand(SIZE, SIZE, 1)),
        "albedo: it is grey",
    ),
    "albedo size": (
        lambda root: write_image(root / FOLDER / "albedo.png", torch.rand(SIZE, 72, 3)),
        "albedo: it is 72×64, the pictures 64×64",
    ),
    "normals size": (
        lambda root: write_raw(root, "normals.exr", constant(0, 0, 1, size=32)),
        "normals: it is 32×32, the pictures 64×64",
    ),
    "depth size": (
        lambda root: write_raw(root, "depth.exr", constant(2, size=72)),
        "depth: it is 72×72, the pictures 64×64",
    ),
    "NaN normal": (
        lambda root: write_raw(root, "normals.exr", constant(0, 0, 1, odd=np.nan)),
        "normals: 1 values are NaN or infinite",
    ),
    "long normal": (
        lambda root: write_raw(root, "normals.exr", constant(0, 0, 1, odd=0.1)),
        r"normals: 1 of its vectors are neither .* \(lengths 1\.005 to 1\.005\); write unit",
    ),
    "normals in 0..1": (
        lambda root: write_raw(root, "normals.exr", constant(0.5, 0.5, 1)),
        r"normals: 4096 of its vectors are neither of length 1 nor zero \(lengths 1\.225 to 1\.225\)",
    ),
    "huge normal": (
        lambda root: write_raw(root, "normals.exr", constant(0, 0, 1, odd=3e38)),
        r"normals: 1 of its vectors .* \(lengths 3e\+38 to 3e\+38\)",
    ),
    "normals without Z": (
        lambda root: write_raw(root, "normals.exr", constant(0, 1)),
        "normals: its channels are R, G; a normal",
    ),
    "normals as PNG": (use_png_normals, "normals: it is a png file; write .exr"),
    "negative depth": (
        lambda root: write_raw(root, "depth.exr", constant(2, odd=-0.5)),
        r"depth: 1 values are negative \(the least is -0\.5\)",
    ),
    "infinite depth": (
        lambda root: write_raw(root, "depth.exr", constant(2, odd=np.inf)),
        "depth: 1 values are NaN or infinite",
    ),
    "depth in colour": (
        lambda root: write_raw(root, "depth.exr", constant(2, 2, 2)),
        "depth: its channels are R, G, B; depth is one channel, Z",
    ),
}


@pytest.mark.parametrize(("break_it", "message"), BREAKAGES.values(), ids=BREAKAGES.keys())
def test_a_broken_surface_is_told_of_all_its_pairs(data_set, break_it, message):
    break_it(data_set)
    check = check_folder(data_set)
    assert [finding.name for finding in check.findings] == ["sphere1/left", "sphere1/right"]
    assert all(re.match(message, finding.problem) for finding in check.findings), check.findings[0].problem
    assert len(check.sound) == 4


def test_a_line_that_names_no_file_is_told_alone(data_set):
    edit_index(data_set, lambda records: records[2].update(albedo=None))
    (finding,) = check_folder(data_set).findings
    assert (finding.name, finding.problem) == ("sphere1/left", "albedo: there is no file None")


def test_a_file_of_several_pairs_is_read_once(data_set, monkeypatch):
    read = []

    def counted(kind: str, path: Path):
        read.append(path.relative_to(data_set).as_posix())
        return check_truth(kind, path)

    check_truth = dataset_check.check_truth
    monkeypatch.setattr(dataset_check, "check_truth", counted)
    check_folder(data_set)
    assert sorted(read) == sorted(
        f"subjects/sphere{number}/{name}"
        for number in range(3)
        for name in ("albedo.png", "normals.exr", "depth.exr")
    )
