"""Who renders: this machine's processes or a Ray cluster, and what becomes of the work of one that dies."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import pytest
import torch

from delit_models.errors import DelitError
from delit_models.image_files import read_env_map, read_image
from tests.unit.two_machines import two_machines
from tests.unit.worker_stubs import machines_seen, make_stub, refuse
from training.data.shards import open_pairs
from training.generate_toy_dataset import collect, main, unfinished_work
from training.synth.dataset.folder import DatasetConfig, env_name, read_index, subject_name
from training.synth.dataset.workers import Work, local_records, ray_records
from training.synth.render.mitsuba_runtime import start_mitsuba

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (pip install ray)"
)


def _attempts(folder: Path, subject: int) -> int:
    return len(list((folder / "attempts").glob(f"{subject_name(subject)}-*")))


def test_a_killed_process_ends_the_run_with_a_word_and_the_same_command_goes_on(tmp_path: Path) -> None:
    config = DatasetConfig(tmp_path, num_subjects=4, num_envs=2)
    work = unfinished_work(config)
    with pytest.raises(DelitError, match="process was killed.*same command again"):
        collect(config, work, local_records(partial(make_stub, str(tmp_path), killer=3), work, 2))
    left = unfinished_work(config)
    assert (3, [0, 1]) in left
    collect(config, left, local_records(partial(make_stub, str(tmp_path)), left, 2))
    assert sorted((line["subject"], line["env"]) for line in read_index(tmp_path)) == [
        (subject_name(subject), env_name(env)) for subject in range(4) for env in range(2)
    ]


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mitsuba", "anny", "pyoidn")),
    reason="mitsuba, anny or pyoidn is not installed (pip install mitsuba anny pyoidn); nothing is rendered",
)
def test_people_do_not_depend_on_how_many_processes_render_them(tmp_path: Path) -> None:
    """The whole command, with one process on all cores and with two that share them."""
    for workers in ("1", "2"):
        command = [
            "--output_dir",
            str(tmp_path / workers),
            "--num_subjects",
            "2",
            "--num_envs",
            "1",
            "--seed",
            "3",
        ]
        assert main([*command, "--image_size", "64", "--samples_per_pixel", "2", "--workers", workers]) == 0
    one, two = (
        sorted(read_index(tmp_path / workers), key=lambda line: line["subject"]) for workers in ("1", "2")
    )
    assert one == two and len(one) == 2
    for line in one:
        for key in ("relit", "flat", "mask", "albedo"):
            pictures = [read_image(tmp_path / workers / line[key]) for workers in ("1", "2")]
            difference = (pictures[0] - pictures[1]).abs()
            # Sums run in another order on another number of threads: one 8-bit step at the most, rarely.
            assert difference.max() <= 1.01 / 255 and difference.mean() < 1e-3, key
        maps = [read_env_map(tmp_path / workers / line["env_map"]).radiance for workers in ("1", "2")]
        torch.testing.assert_close(*maps, rtol=2e-3, atol=1e-4)


def test_files_that_this_machine_does_not_see_are_never_counted(tmp_path: Path) -> None:
    config = DatasetConfig(tmp_path / "here", num_subjects=1, num_envs=1)
    work = unfinished_work(config)
    (tmp_path / "there").mkdir()
    with pytest.raises(DelitError, match="disk that all machines share"):
        collect(config, work, map(partial(make_stub, str(tmp_path / "there")), work))
    assert read_index(config.output_dir) == []


def _command(folder: Path, *more: str) -> list[str]:
    return ["--output_dir", str(folder), "--num_subjects", "9", "--num_envs", "2", "--no_denoise", *more]


def _render_nothing(config: DatasetConfig, variant: str, threads: int, work: Work) -> list[dict]:
    return make_stub(str(config.output_dir), work)


def test_the_finished_set_is_packed_into_shards_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("training.generate_toy_dataset.make_subject", _render_nothing)
    assert main(_command(tmp_path / "data", "--workers", "1", "--shards", str(tmp_path / "shards"))) == 0
    assert "train: 18 pairs in 1 shards" in capsys.readouterr().out
    packed = open_pairs(tmp_path / "shards", "train").records
    assert [(record.subject, record.env) for record in packed] == [
        (subject_name(subject), env_name(env)) for subject in range(9) for env in range(2)
    ]
    # Killed after the last shard, before the last word: the same command says what there is.
    assert main(_command(tmp_path / "data", "--workers", "1", "--shards", str(tmp_path / "shards"))) == 0
    assert "train: 18 pairs in 1 shards" in capsys.readouterr().out
    (tmp_path / "shards" / "train-000000.tar").unlink()
    assert main(_command(tmp_path / "data", "--workers", "1", "--shards", str(tmp_path / "shards"))) == 1
    assert "shards is not empty" in capsys.readouterr().err


def test_a_folder_that_takes_no_shards_is_refused_before_anything_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("training.generate_toy_dataset.make_subject", _render_nothing)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "something.txt").touch()
    assert main(_command(tmp_path / "data", "--workers", "1", "--shards", str(tmp_path / "shards"))) == 1
    assert "shards is not empty" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--workers", "--workers is -1; it must be 1 to 256, or 0"),
        ("--seed", "seed is -1; it must be 0 or more"),
    ],
)
def test_less_than_nothing_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture, option: str, message: str
) -> None:
    assert main(_command(tmp_path / "data", option, "-1")) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("option", ["--num_subjects", "--num_envs", "--image_size", "--olat", "--workers"])
def test_more_than_any_machine_could_make_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture, option: str
) -> None:
    assert main(_command(tmp_path / "data", option, "100000000")) == 1
    assert "100000000; it must be" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@needs_ray
def test_a_ray_cluster_that_loses_a_machine_and_a_worker_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines' worth of workers; a worker kills itself, and then a whole machine goes, in the middle."""
    subjects = 10
    config = DatasetConfig(tmp_path, num_subjects=subjects, num_envs=2)
    work = unfinished_work(config)
    make = partial(make_stub, str(tmp_path), killer=1, seconds=0.5, machines=2)
    with two_machines(monkeypatch) as machines:

        def interrupted():
            for count, records in enumerate(ray_records(make, work, machines.address)):
                if count == 1:
                    machines.lose_one()
                yield records

        assert collect(config, work, interrupted()) == 2 * subjects
        refused = ray_records(refuse, [(7, [0])], machines.address)
        with pytest.raises(DelitError, match=r"^subject 7 cannot be made. Mend it.$"):
            list(refused)
    lines = [(line["subject"], line["env"]) for line in read_index(tmp_path)]
    assert sorted(lines) == [
        (subject_name(subject), env_name(env)) for subject in range(subjects) for env in range(2)
    ]
    assert unfinished_work(config) == []
    assert _attempts(tmp_path, 1) >= 2, "the killed worker's subject was begun again"
    assert len(machines_seen(tmp_path)) == 2, "both machines took part"


@needs_ray
def test_a_cluster_that_is_not_there_is_told() -> None:
    with pytest.raises(DelitError, match="No Ray cluster was reached at '127.0.0.1:1'"):
        list(ray_records(refuse, [(0, [0])], "127.0.0.1:1"))


def test_ray_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(DelitError, match="pip install ray"):
        list(ray_records(refuse, [(0, [0])], "auto"))


@pytest.mark.skipif(importlib.util.find_spec("mitsuba") is None, reason="mitsuba is not installed")
def test_a_graphics_card_that_is_not_there_is_told() -> None:
    import drjit

    if drjit.has_backend(drjit.JitBackend.CUDA):
        pytest.skip("this machine has a graphics card that Mitsuba can use")
    with pytest.raises(DelitError, match="needs an NVIDIA card.*--device cpu"):
        start_mitsuba("cuda_ad_rgb")
