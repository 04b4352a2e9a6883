"""The command's work on a Ray cluster: what a killed worker and a killed machine had in hand is done by others."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path

import pytest

from delit_models.image_files import read_image, write_image
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE
from tests.unit import batch_stubs
from tests.unit.test_delit_command import picture, run
from tests.unit.worker_stubs import machines_seen
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
    """Two machines' worth of workers; one worker kills itself, one piece kills whoever takes it, and a machine goes in
    the middle. All others come out as they do without Ray, each in one line of the index."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "240")
    from ray.cluster_utils import Cluster

    source, output = tmp_path / "in", tmp_path / "out"
    names = [f"p{number}" for number in range(PICTURES)]
    for number, name in enumerate([*names, batch_stubs.POISON]):
        write_image(source / f"{name}.png", picture(seed=number))
    # A store that both machines see, and that this test reads as a folder.
    arguments = arguments_of(monkeypatch, f"file://{source}", "--output", f"file://{output}")
    report = Report(aloud=False)
    pieces = planned(arguments, report)
    load = partial(
        batch_stubs.load, str(tmp_path), str(EMBEDDED_VAE), str(EMBEDDED_HEADS), killer="p1", machines=2
    )
    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster()
    try:
        try:
            cluster.add_node(**small, include_dashboard=False)
            doomed = cluster.add_node(**small)
            cluster.wait_for_nodes()
        except Exception as error:
            # Ray gives its processes a fixed time to come up, which a starved machine can exceed.
            pytest.skip(f"Ray could not start two nodes on this machine: {error}")

        def interrupted(todo):
            done = ray_outcomes(load, cluster.address, 0, False, todo)
            for count, (piece, outcome) in enumerate(done):
                if count == 1:
                    cluster.remove_node(doomed, allow_graceful=False)
                yield piece, outcome

        carry_out(pieces, pieces[0].results.output, report, interrupted)
    finally:
        cluster.shutdown()
    assert report.done == PICTURES
    assert [failure["name"] for failure in report.failed] == [batch_stubs.POISON]
    assert "killed the worker 5 times" in report.failed[0]["reason"]
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


@needs_ray
def test_a_cluster_that_is_not_there_is_told(monkeypatch, capsys, tmp_path):
    write_image(tmp_path / "a.png", picture())
    asked = (tmp_path / "a.png", "--output", tmp_path / "out", "--ray", "127.0.0.1:1")
    assert "No Ray cluster was reached at '127.0.0.1:1'" in run(monkeypatch, capsys, *asked)


@pytest.mark.parametrize("package", ["ray", "ray.data"])
def test_ray_that_is_not_installed_is_told(monkeypatch, capsys, tmp_path, package):
    if package == "ray.data" and importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("training.batch.ray_workers.connect", None if package == "ray" else _connected)
    if package == "ray":
        monkeypatch.undo()
        monkeypatch.setitem(sys.modules, "ray", None)
    write_image(tmp_path / "a.png", picture())
    asked = (tmp_path / "a.png", "--output", tmp_path / "out", "--ray", "local")
    assert "not installed: pip install" in run(monkeypatch, capsys, *asked)


def _connected(address: str):
    import types

    return types.SimpleNamespace(shutdown=lambda: None)
