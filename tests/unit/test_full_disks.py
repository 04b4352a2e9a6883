"""Commands on disks that are full, read-only or gone, and without memory: one line that says why, nothing half-written,
nothing lost, and the same command goes on once there is room."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from delit_models import atomic_write as writing
from delit_models.atomic_write import atomic_write, check_folder
from delit_models.errors import DelitError
from delit_models.heads import DelitHeads
from delit_models.heads_file import HeadsInfo, save_heads
from tests.faults import generate_discs
from tests.faults.jobs import TINY_HEADS, VAETraining
from tests.faults.whole_files import damaged_files, differences, hidden_files
from tests.unit.disk_limits import full_disk_after, make_room, mounted, names_in, vanish
from training import evaluate, train_delit_wan, train_wan_vae
from training import make_shards as shards_command
from training.command_line import refusal, run_command
from training.data.index import INDEX_FILE, PAIR_FILES
from training.data.sphere_pairs import write_sphere_pairs
from training.loop.checkpoints import LAST, find_checkpoints
from training.loop.log import RunLog
from training.make_shards import make_shards
from training.synth.dataset.folder import append_index, read_index, repair_index

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_sphere_pairs(tmp_path / "data", train_subjects=2, test_subjects=1)
    return tmp_path / "data"


def refused(capsys: pytest.CaptureFixture, command, arguments) -> str:
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as ended:
        run_command(command, arguments)
    assert ended.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("✗")]
    assert len(lines) == 1
    return lines[0]


def parsed(module, monkeypatch: pytest.MonkeyPatch, *arguments: object):
    monkeypatch.setattr("sys.argv", ["command", *map(str, arguments)])
    return module.parse_arguments()


def test_the_generator_goes_on_where_the_disk_was_full(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = [
        "--num_subjects",
        "3",
        "--num_envs",
        "2",
        "--image_size",
        "64",
        "--no_denoise",
        "--workers",
        "1",
    ]
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    assert generate_discs.main(["--output_dir", str(whole / "data"), *arguments]) == 0
    with mounted(disk, "size=150k"):
        command = ["--output_dir", str(disk / "data"), *arguments]
        capsys.readouterr()
        assert generate_discs.main(command) == 1
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(told) == 1 and "No space left on device" in told[0]
        assert not list(damaged_files(disk)) and not hidden_files(disk)
        make_room(disk, "20m")
        assert generate_discs.main(command) == 0
        assert not list(differences(disk, whole))


def test_a_line_of_the_index_that_does_not_fit_is_taken_out(tmp_path: Path) -> None:
    def record(number: int) -> dict:
        return {"subject": "s", "env": str(number), "split": "train"} | dict.fromkeys(PAIR_FILES, "file")

    (tmp_path / "file").touch()
    append_index(tmp_path, [record(0)])
    whole = (tmp_path / INDEX_FILE).read_text()
    with full_disk_after(len(whole) + 20), pytest.raises(DelitError, match="goes on"):
        append_index(tmp_path, [record(1)])
    assert len((tmp_path / INDEX_FILE).read_text()) == len(whole) + 20
    assert repair_index(tmp_path) == {("s", "0")}
    append_index(tmp_path, [record(2)])
    assert [line["env"] for line in read_index(tmp_path)] == ["0", "2"]


def test_shards_on_a_full_disk_leave_nothing(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=60k"):
        arguments = parsed(shards_command, monkeypatch, data, "--output", disk / "shards")
        told = refused(capsys, shards_command.main, arguments)
        assert "No space left on device" in told and names_in(disk) == []
        make_room(disk, "20m")
        assert make_shards(data, disk / "shards")["train"]


def test_training_goes_on_where_the_disk_was_full(tmp_path: Path, monkeypatch, capsys) -> None:
    inputs, disk, whole, job = tmp_path / "inputs", tmp_path / "disk", tmp_path / "whole", VAETraining()
    job.prepare(inputs)

    def train(folder: Path) -> argparse.Namespace:
        return parsed(train_wan_vae, monkeypatch, *job.arguments(inputs, folder))

    run_command(train_wan_vae.train, train(whole))
    checkpoint = (whole / "vae.training" / LAST).stat().st_size
    with mounted(disk, f"size={checkpoint * 5 // 2}"):
        told = refused(capsys, train_wan_vae.train, train(disk))
        assert LAST in told and "goes on" in told
        assert not list(damaged_files(disk, ("log",))) and not hidden_files(disk)
        make_room(disk, "100m")
        # And as a kill leaves it that comes between the two renames of a checkpoint.
        (newest := find_checkpoints(disk / "vae.training")[0]).rename(newest.with_name("checkpoint.new.pt"))
        run_command(train_wan_vae.train, train(disk))
        assert "Going on from step" in capsys.readouterr().out
        assert not list(job.not_as_unbroken(inputs, disk, whole))


def test_folders_that_take_no_files_are_refused_before_any_work(
    data: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def no_work(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr("training.heads.run.load_wan_vae", no_work)
    monkeypatch.setattr("training.vae.run.load_pictures", no_work)
    monkeypatch.setattr("training.evaluate.DelitPipeline.load", no_work)
    locked = tmp_path / "locked"
    with mounted(locked, "ro"):
        heads = train_delit_wan.parse_arguments([
            "--wan_vae_checkpoint", "none", "--data_root", str(data), "--output_dir", str(locked / "run"),
        ])  # fmt: skip
        vae = parsed(train_wan_vae, monkeypatch, "--data_root", data, "--output", locked / "vae.safetensors")
        report = parsed(evaluate, monkeypatch, "--data_root", data, "--report", locked)
        commands = ((train_delit_wan.train, heads), (train_wan_vae.train, vae), (evaluate.evaluate, report))
        for command, arguments in commands:
            assert f"Cannot write to {locked}" in (told := refused(capsys, command, arguments))
            assert "Read-only file system" in told


def test_a_full_disk_ends_the_curves_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mounted(tmp_path / "log", "ro"), RunLog(tmp_path / "log") as log:
        for step in range(3):
            log.numbers("loss", step, {"all": 1.0})
    assert len([line for line in caplog.messages if "No more curves" in line]) == 1


def test_a_drive_that_vanishes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the system says, and whenever."""
    (tmp_path / "file.txt").write_text("old")

    def gone(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for name in ("fsync", "replace", "open"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, gone)
            with (
                pytest.raises(DelitError, match="Input/output error"),
                atomic_write(tmp_path / "file.txt") as new,
            ):
                new.write_text("new")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_dir", gone)
        with pytest.raises(DelitError, match="Input/output error"), atomic_write(tmp_path / "file.txt"):
            pass
    assert (tmp_path / "file.txt").read_text() == "old" and names_in(tmp_path) == ["file.txt"]
    with pytest.raises(DelitError, match="File name too long"), atomic_write(tmp_path / ("n" * 300)):
        pass


def test_a_mounted_drive_that_vanishes_while_it_is_written(tmp_path: Path) -> None:
    """What lies under the place where it was is another disk, and gets no half of a file."""
    drive = tmp_path / "drive"
    with (
        mounted(drive, "size=1m"),
        pytest.raises(DelitError, match="Nothing was written"),
        atomic_write(drive / "file.txt") as new,
    ):
        new.write_text("all of it")
        vanish(drive)
    assert names_in(drive) == []


def test_memory_that_runs_out_is_told_in_a_line(capsys: pytest.CaptureFixture) -> None:
    for take in (lambda _: torch.empty(2**50), lambda _: np.empty(2**50), lambda _: bytearray(2**60)):
        assert "Memory ran out" in refused(capsys, take, None)
    assert refusal(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert refusal(ZeroDivisionError()) is None
    assert "No such file" in refusal(FileNotFoundError(errno.ENOENT, "No such file or directory", "x"))


def test_heads_that_do_not_fit_leave_the_old_ones(tmp_path: Path) -> None:
    heads, file = DelitHeads(TINY_HEADS), tmp_path / "heads.safetensors"
    info = HeadsInfo("Tiny", "vae", "Apache-2.0", {})
    save_heads(file, heads, torch.zeros(1, 16, 8, 8), info)
    before = file.read_bytes()
    with full_disk_after(2000), pytest.raises(DelitError, match="heads"):
        save_heads(file, heads, torch.ones(1, 16, 8, 8), info)
    assert file.read_bytes() == before and names_in(tmp_path) == [file.name]


def test_a_file_that_somebody_has_open_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows refuses to replace one: for a moment it is waited for, then told."""
    replace, refusals = os.replace, [PermissionError(13, "Access is denied")] * 3
    monkeypatch.setattr(writing, "_WAITS", (0.001,) * 5)

    def busy(source: Path, target: Path) -> None:
        if refusals:
            raise refusals.pop()
        replace(source, target)

    (tmp_path / "file.txt").write_text("old")
    monkeypatch.setattr(os, "replace", busy)
    with atomic_write(tmp_path / "file.txt") as new:
        new.write_text("new")
    assert (tmp_path / "file.txt").read_text() == "new"
    refusals += [PermissionError(13, "Access is denied")] * 9
    with pytest.raises(DelitError, match="Access is denied"), atomic_write(tmp_path / "file.txt") as new:
        new.write_text("newer")
    assert (tmp_path / "file.txt").read_text() == "new" and names_in(tmp_path) == ["file.txt"]


def test_a_folder_in_whose_place_there_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file")
    with pytest.raises(DelitError, match="Cannot write to .*report"):
        check_folder(tmp_path / "report")
    check_folder(tmp_path / "new" / "folder")
    assert names_in(tmp_path / "new" / "folder") == []
