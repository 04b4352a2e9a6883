"""What Windows and macOS do otherwise, as far as it can be tried here: names that capitals do not tell apart, no fork,
files that macOS leaves beside others, text in another coding."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from torch.utils.data import Subset

from delit_models.env_map_files import ENV_SUFFIXES
from delit_models.free_names import free_number, free_version
from delit_models.plate_files import find_plates
from training.heads.batches import made_ahead
from training.synth.light.lights import hdri_names

ROOT = Path(__file__).parents[2]


def test_numbers_are_free_whatever_the_capitals(tmp_path: Path) -> None:
    assert free_version(tmp_path, "flat") == free_number(tmp_path, "flat", ENV_SUFFIXES) == 1
    for name in ("Flat_v003.1001.exr", "flat_v².exr", "flat_vx.exr", "flatter_v009.exr", ".flat_v012.exr"):
        (tmp_path / name).touch()
    assert free_version(tmp_path, "flat") == free_version(tmp_path, "FLAT") == 4
    for name in (
        "ENV.0007.EXR",
        "env.0009.png",
        "env.0012.more.exr",
        "environment.0020.exr",
        ".env.0030.exr",
    ):
        (tmp_path / name).touch()
    assert free_number(tmp_path, "env", ENV_SUFFIXES) == free_number(tmp_path, "Env", ENV_SUFFIXES) == 8


def test_hidden_files_are_nobodys_pictures(tmp_path: Path) -> None:
    """macOS leaves such a file beside every other on a disk of another kind; so does a write that was killed."""
    for name in (
        "a.exr",
        "b.exr",
        "._a.exr",
        ".b.x8fk2.exr",
        "shot.0001.exr",
        "shot.0002.exr",
        "._shot.0001.exr",
    ):
        (tmp_path / name).touch()
    assert find_plates(tmp_path) == ["shot.####.exr", "a.exr", "b.exr"]
    for split, count in (("train", 3), ("test", 1)):
        names = [path.name for path in hdri_names(tmp_path, split)]
        assert len(names) == count and not any(name.startswith(".") for name in names)


def test_loaders_need_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    assert list(made_ahead(Subset([0, 1, 4], [2, 1, 0]), 1)) == [4, 1, 0]


def test_text_files_are_read_and_written_in_utf_8_everywhere() -> None:
    """Python's own choice on Windows is another one. What has no letters beyond ASCII is the same in both."""
    unsaid = []
    for folder in ("delit_models", "nodes", "training"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call) and _reads_unsaid(call):
                    unsaid.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert not unsaid


def _reads_unsaid(call: ast.Call) -> bool:
    """Whether a call reads text without saying how it is coded."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if any(word.arg == "encoding" for word in call.keywords):
        return False
    if name == "read_text":
        return not call.args
    modes = [x.value for x in call.args if isinstance(x, ast.Constant) and isinstance(x.value, str)]
    return name == "open" and modes == ["r"]
