"""Whether something is there, where the system cannot tell: a disk that does not answer is no empty one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from delit_models.atomic_write import atomic_write
from delit_models.errors import DelitError
from delit_models.heads_file import load_heads
from delit_models.image_files import read_image
from delit_models.presence import is_file, is_folder, is_there
from training.batch.places import names_in
from training.data.index import INDEX_FILE, index_lines
from training.data.sphere_pairs import write_sphere_pairs
from training.loop.checkpoints import LAST, find_checkpoints
from training.make_shards import make_shards, refuse_filled
from training.synth.dataset.folder import repair_index


@pytest.fixture
def silent_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data set and some files in a folder whose disk answers no question about them."""
    folder = tmp_path / "silent"
    write_sphere_pairs(folder, train_subjects=1, test_subjects=0, size=32)
    (folder / LAST).write_bytes(b"state")
    (folder / "old.png").write_text("old")
    stat = os.stat

    def failing_stat(path, *arguments, **named):
        if not isinstance(path, int) and Path(os.fsdecode(path)).is_relative_to(folder):
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fsdecode(path))
        return stat(path, *arguments, **named)

    monkeypatch.setattr(os, "stat", failing_stat)
    yield folder
    monkeypatch.undo()


def test_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    file, folder = tmp_path / "file.txt", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert is_file(file) and is_file(tmp_path / "link") and not is_folder(file) and is_there(file)
    assert is_folder(str(folder)) and not is_file(folder) and is_there(folder)
    for name in ("none", "file.txt/below", "loop", "dangling", "a\0b", "\udcff", "x" * 300):
        for question in (is_file, is_folder, is_there):
            assert not question(tmp_path / name)


@pytest.mark.parametrize(
    "look",
    [
        is_file,
        is_folder,
        is_there,
        find_checkpoints,
        repair_index,
        index_lines,
        names_in,
        refuse_filled,
        lambda folder: load_heads(folder / "heads.safetensors"),
        lambda folder: read_image(folder / "old.png"),
    ],
)
def test_a_disk_that_does_not_answer_is_told_and_nothing_begun_anew(
    silent_folder: Path, look: Callable[[Path], object]
) -> None:
    with pytest.raises(DelitError, match="(cannot be read: |OSError: ).*Input/output error"):
        look(silent_folder)


def test_no_file_is_replaced_because_its_disk_did_not_answer(
    silent_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = (silent_folder / INDEX_FILE).read_text()
    with (
        pytest.raises(DelitError, match="Cannot write .*Input/output error"),
        atomic_write(silent_folder / "old.png", overwrite=False) as temporary,
    ):
        temporary.write_text("new")
    with pytest.raises(DelitError):
        repair_index(silent_folder)
    monkeypatch.undo()
    assert (silent_folder / "old.png").read_text() == "old"
    assert (silent_folder / INDEX_FILE).read_text() == index
    assert len(repair_index(silent_folder)) == len(index.splitlines())


def test_a_long_text_in_an_index_is_no_file(tmp_path: Path) -> None:
    write_sphere_pairs(tmp_path / "data", train_subjects=1, test_subjects=0, size=32)
    index = tmp_path / "data" / INDEX_FILE
    index.write_text(index.read_text().replace("{", '{"prompt": "' + "A face, lit. " * 40 + '", ', 1))
    shards = make_shards(tmp_path / "data", tmp_path / "shards")
    assert sum(shards["train"].values()) == len(index.read_text().splitlines())
