"""A file is whole under its name, or not there: in which order it gets to the disk and to its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from delit_models.atomic_write import atomic_write
from delit_models.errors import DelitError
from delit_models.image_files import read_image
from tests.unit.disk_limits import names_in


def test_the_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch) -> None:
    """A power cut after a rename that the content has not followed leaves an empty file."""
    done = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        done.append(("synchronised", os.fstat(handle).st_ino, os.fstat(handle).st_size))
        fsync(handle)

    def noted_replace(source: Path, target: Path) -> None:
        done.append(("renamed", os.stat(source).st_ino, os.stat(source).st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    with atomic_write(tmp_path / "new" / "file.txt") as temporary:
        temporary.write_text("all of it")
    assert (tmp_path / "new" / "file.txt").read_text() == "all of it"
    (first, synchronised, size), (second, renamed, _) = done
    assert (first, second) == ("synchronised", "renamed")
    assert synchronised == renamed and size == len("all of it")


def test_a_disk_that_does_not_take_it_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    def failing(handle: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "file.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", failing)
    with (
        pytest.raises(DelitError, match="No space left on device. Nothing was written"),
        atomic_write(tmp_path / "file.txt") as temporary,
    ):
        temporary.write_text("new")
    assert (tmp_path / "file.txt").read_text() == "old" and names_in(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("name", ["\udcff.png", "\udcff/a.png"])
def test_names_that_are_no_text_are_refused(tmp_path, name):
    with pytest.raises(DelitError, match="no name in UTF-8"), atomic_write(tmp_path / name):
        pass
    with pytest.raises(DelitError, match="no name in UTF-8"):
        read_image(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_name_that_the_disk_cannot_hold_is_refused(tmp_path):
    with pytest.raises(DelitError, match="Cannot write"), atomic_write(tmp_path / f"{'x' * 300}.png", False):
        pass
    with pytest.raises(DelitError, match="There is no file"):
        read_image(tmp_path / f"{'x' * 300}.png")
