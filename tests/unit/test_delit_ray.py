"""The command's work on a Ray cluster: what a killed worker and a killed machine had in hand is done by others."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from delit_models.image_files import read_image, write_image
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE
from tests.unit import batch_stubs
from tests.unit.test_delit_command import picture, run
from tests.unit.two_machines import two_machines
from tests.unit.worker_stubs import machines_seen
from training.batch.pieces import Outcome
from training.batch.plan import carry_out, do_here, load_weights, planned
from training.batch.ray_workers import ray_outcomes
from training.batch.report import Report
from training.delit import parse_arguments

needs_ray = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow", "pandas", "upath")),
    reason="Ray Data or universal_pathlib is not installed (scripts/set_up ray)",
)
PICTURES = 8


def arguments_of(monkeypatch: pytest.MonkeyPatch, *arguments: object):
    monkeypatch.setattr(sys, "argv", ["delit", *map(str, arguments)])
    return parse_arguments()


@needs_ray
def test_a_machine_and_a_worker_die_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines' worth of workers; a worker kills itself, and a machine goes in the middle. All comes out as it does
    without Ray, each piece in one line of the index."""
    source, output = tmp_path / "in", tmp_path / "out"
    names = [f"p{number}" for number in range(PICTURES)]
    for number, name in enumerate(names):
        write_image(source / f"{name}.png", picture(seed=number))
    # A store that both machines see, and that this test reads as a folder.
    arguments = arguments_of(monkeypatch, f"file://{source}", "--output", f"file://{output}")
    report = Report(aloud=False)
    pieces = planned(arguments, report)
    load = partial(
        batch_stubs.load, str(tmp_path), str(EMBEDDED_VAE), str(EMBEDDED_HEADS), killer="p1", machines=2
    )
    with two_machines(monkeypatch) as machines:

        def interrupted(todo):
            done = ray_outcomes(load, machines.address, 0, False, todo)
            for count, (piece, outcome) in enumerate(done):
                if count == 1:
                    machines.lose_one()
                yield piece, outcome

        carry_out(pieces, pieces[0].results.output, report, interrupted)
    assert report.done == PICTURES and not report.failed
    lines = [json.loads(line)["name"] for line in (output / "index.jsonl").read_text().splitlines()]
    assert sorted(lines) == names, "each once"
    assert len(list((tmp_path / "attempts").glob("p1-*"))) >= 2, "the killed worker's piece was begun again"
    assert len(machines_seen(tmp_path)) == 2, "both machines took part"
    left = [path.name for path in output.iterdir() if path.name.startswith(".")]
    assert not left, "no half-written file"

    here = arguments_of(monkeypatch, source, "--output", tmp_path / "here")
    again = [piece for piece in planned(here, Report()) if piece.key in ("p1", "p7")]
    carry_out(
        again,
        tmp_path / "here",
        Report(),
        partial(do_here, partial(load_weights, EMBEDDED_VAE, EMBEDDED_HEADS, "cpu")),
    )
    for name in ("p1", "p7"):
        difference = read_image(output / f"{name}_flat.png") - read_image(
            tmp_path / "here" / f"{name}_flat.png"
        )
        assert difference.abs().max() <= 1.01 / 255


def test_a_piece_that_kills_every_worker_is_told_and_takes_no_other_with_it(monkeypatch, tmp_path):
    """Without Ray: what is made of pieces that do not come back from it."""
    rounds = []

    def lossy(ray, load, workers, gpus, pieces, blocks, attempts, in_flight):
        rounds.append((sorted(piece.key for piece in pieces.values()), blocks, attempts))
        # With the first, its neighbours in a block are lost; by themselves they come back.
        lost = ("p1", "p2") if len(rounds) == 1 else ("p1",)
        for number, piece in list(pieces.items()):
            if piece.key not in lost:
                yield number, Outcome()
                yield number, Outcome()

    monkeypatch.setattr("training.batch.ray_workers._round", lossy)
    monkeypatch.setattr("training.batch.ray_workers.connect", _connected)
    for number in range(4):
        write_image(tmp_path / f"p{number}.png", picture())
    pieces = planned(arguments_of(monkeypatch, tmp_path, "--output", tmp_path / "out"), Report())
    done = [(piece.key, outcome) for piece, outcome in ray_outcomes(None, "local", 0, False, pieces)]
    assert [key for key, outcome in done] == ["p0", "p3", "p2", "p1"], "each once"
    assert "killed the worker 5 times" in done[-1][1].reason
    assert rounds == [(["p0", "p1", "p2", "p3"], 4, 2), (["p1", "p2"], 2, 3)]


def test_workers_are_told_of_files_as_they_are_seen_from_anywhere(monkeypatch, capsys, tmp_path):
    """A cluster's workers run in other folders than the one who asks."""
    given = []

    def taken(load, address, workers, gpus, pieces):
        given.extend(pieces)
        assert (address, workers, gpus) == ("auto", 3, True) and all(
            Path(name).is_absolute() for name in load.args[:2]
        )
        yield from ((piece, Outcome("not done")) for piece in pieces)

    monkeypatch.setattr("training.delit.ray_outcomes", taken)
    write_image(tmp_path / "in" / "a.png", picture())
    write_image(tmp_path / "masks" / "a.png", picture()[..., :1])
    (tmp_path / "shots.csv").write_text("shot,source,mask\nsh1,in/a.png,masks/a.png\n")
    monkeypatch.chdir(tmp_path)
    cluster = ("--output", "out", "--ray", "auto", "--workers", "3", "--device", "cuda")
    assert "1 of 1 failed" in run(monkeypatch, capsys, "in", "--mask", "masks", *cluster)
    assert "1 of 1 failed" in run(monkeypatch, capsys, "--shots", "shots.csv", *cluster)
    for piece in given:
        assert all(path.is_absolute() for path in (*piece.job.files, *piece.job.masks, piece.results.output))


@needs_ray
def test_a_cluster_that_is_not_there_is_told(monkeypatch, capsys, tmp_path):
    write_image(tmp_path / "a.png", picture())
    asked = (tmp_path / "a.png", "--output", tmp_path / "out", "--ray", "127.0.0.1:1")
    assert "No Ray cluster was reached at '127.0.0.1:1'" in run(monkeypatch, capsys, *asked)


@pytest.mark.parametrize("package", ["ray", "ray.data"])
def test_ray_that_is_not_installed_is_told(monkeypatch, capsys, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    if package == "ray.data":
        pytest.importorskip("ray", reason="Ray is not installed (scripts/set_up ray)")
        monkeypatch.setattr("training.batch.ray_workers.connect", _connected)
    write_image(tmp_path / "a.png", picture())
    asked = (tmp_path / "a.png", "--output", tmp_path / "out", "--ray", "local")
    assert "not installed: pip install" in run(monkeypatch, capsys, *asked)


def _connected(address: str):
    return SimpleNamespace(shutdown=lambda: None)
