"""The queue of shots without ComfyUI: what is posted, what is done again, what is said of failures.
tests/comfy/test_queue_shots.py has the real server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from delit_models.errors import DelitError
from scripts import queue_shots as command
from scripts.comfy_queue import server as server_module
from scripts.comfy_queue.queue import open_workflow
from scripts.comfy_queue.server import ComfyUI
from scripts.comfy_queue.shot_graph import shot_graph
from tests.queue_command import queue_command
from tests.unit.stub_comfyui import StubComfyUI, object_info
from training.batch.shots import Shot


@pytest.fixture
def comfyui():
    with StubComfyUI() as running:
        yield running


def write_list(folder: Path, *rows: str) -> Path:
    path = folder / "shots.csv"
    path.write_text("\n".join(("shot,source,mask,coding,bit_depth", *rows)))
    return path


def report(folder: Path) -> dict:
    return json.loads((folder / "shots_queue" / "report.json").read_text())


def test_every_failure_is_told_and_stops_no_other(comfyui, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(server_module, "SECONDS_BETWEEN_LOOKS", 0.01)
    sources = ("refused.exr", "fails.exr", "lost.exr", "good.exr")
    shots = write_list(tmp_path, *(f"sh{index},{name},,," for index, name in enumerate(sources)))
    error = queue_command(monkeypatch, capsys, shots, "--server", comfyui.address)
    assert comfyui.loaded() == list(sources)
    told = [line for line in error.splitlines() if line.startswith("✗")]
    assert len(told) == 4 and "3 of 4 failed" in told[-1]
    reasons = [failure["reason"] for failure in report(tmp_path)["failed"]]
    assert (
        "There is no frame of refused.exr" in reasons[0] and reasons[1] == "DelitPortrait: Pictures hold NaN."
    )
    assert "restarted" in reasons[2] and report(tmp_path)["done"] == 1


def test_a_server_that_goes_stops_the_run_and_a_second_start_goes_on(comfyui, monkeypatch, capsys, tmp_path):
    shots = write_list(tmp_path, "a,a.exr,,,", "b,gone.exr,,,", "c,c.exr,,,")
    error = queue_command(monkeypatch, capsys, shots, "--server", comfyui.address)
    assert "No ComfyUI was reached" in error and comfyui.loaded() == ["a.exr", "gone.exr"]
    assert (report(tmp_path)["asked"], report(tmp_path)["done"]) == (3, 1)
    write_list(tmp_path, "a,a.exr,,,", "b,back.exr,,,", "c,c.exr,,,")
    assert not queue_command(monkeypatch, capsys, shots, "--server", comfyui.address)
    assert comfyui.loaded()[2:] == ["back.exr", "c.exr"]


def test_what_has_changed_or_is_gone_is_done_again(comfyui, monkeypatch, capsys, tmp_path):
    for name in ("a.exr", "b.0001.exr", "b.0002.exr"):
        (tmp_path / name).touch()
    shots = write_list(tmp_path, "a,a.exr,,,", "b,b.####.exr,,,")

    def again(*more: object) -> list[str]:
        comfyui.graphs.clear()
        assert not queue_command(
            monkeypatch, capsys, shots, "--server", comfyui.address, "--input", tmp_path, *more
        )
        return comfyui.loaded()

    assert again() == ["a.exr", "b.####.exr"] and again() == []
    os.utime(tmp_path / "b.0002.exr", ns=(0, 0))
    assert again() == ["b.####.exr"] and again() == []
    write_list(tmp_path, "a,a.exr,,ACEScg,", "b,b.####.exr,,,")
    assert again() == ["a.exr"] and again() == []
    comfyui.saved.remove("shots/b/gain_v001.exr")
    assert again() == ["b.####.exr"] and again() == []
    assert again("--overwrite") == ["a.exr", "b.####.exr"]


@pytest.fixture(scope="module")
def shipped():
    return open_workflow(command.WORKFLOW, object_info())


def of_class(graph: dict, name: str) -> list[dict]:
    return [node["inputs"] for node in graph.values() if node["class_type"] == name]


def test_a_shot_is_put_into_the_shipped_workflow(shipped):
    settings = {"coding": "ACEScg", "exposure": 1.0, "bit_depth": "float", "matte": True, "sequence": True}
    shot = Shot("sh1", "p/a.####.exr", "p/m.####.png", 1001, 1010, settings)
    graph = shot_graph(shipped, shot, object_info(), "shots")
    plate, mask = of_class(graph, "DelitLoadPlate")
    assert plate == {"file": "p/a.####.exr", "first_frame": 1001, "frames": 10}
    assert mask == {"file": "p/m.####.png", "first_frame": 1001, "frames": 10}
    (portrait,) = of_class(graph, "DelitPortrait")
    assert (portrait["coding"], portrait["exposure"], portrait["mode"]) == ("ACEScg", 1.0, "clip")
    assert portrait["mask"] == ["shot mask, one channel", 0]
    saved = {
        node["filename_prefix"]: (node["format"], node["coding"])
        for node in of_class(graph, "DelitSavePlate")
    }
    assert saved == {
        "shots/sh1/flat": ("exr float", "ACEScg"),
        "shots/sh1/gain": ("exr half", "ACEScg"),
        "shots/sh1/matte": ("png 16 bit", "sRGB"),
    }
    assert of_class(graph, "DelitSaveEnvMap")[0]["filename_prefix"] == "shots/sh1/env"
    assert of_class(shipped, "DelitLoadPlate")[0]["file"] != "p/a.####.exr", "the workflow itself stays"


def test_a_gain_is_linear_and_can_be_left_out(shipped):
    still = Shot("s", "a.png", settings={"coding": "sRGB", "sequence": True})
    graph = shot_graph(shipped, still, object_info(), "shots")
    saved = {node["filename_prefix"]: node["coding"] for node in of_class(graph, "DelitSavePlate")}
    assert saved == {"shots/s/flat": "sRGB", "shots/s/gain": "linear Rec.709"}
    assert of_class(graph, "DelitPortrait")[0]["mode"] == "stills"
    without = Shot("s", "a.png", settings={"gain": False, "sequence": False})
    assert len(of_class(shot_graph(shipped, without, object_info(), "shots"), "DelitSavePlate")) == 1


@pytest.mark.parametrize(
    ("shot", "told"),
    [
        (Shot("s", "a.####.exr", last=5, settings={"sequence": True}), "last frame and no first"),
        (Shot("s", "a.####.exr", first=7, last=5, settings={"sequence": True}), "before its first"),
        (Shot("s", "a.png", settings={"sequence": True, "bit_depth": "8"}), "no bit_depth 8"),
    ],
)
def test_what_a_workflow_cannot_give(shipped, shot, told):
    with pytest.raises(DelitError, match=told):
        shot_graph(shipped, shot, object_info(), "shots")


def test_an_address_where_nothing_is(monkeypatch, capsys, tmp_path):
    shots = write_list(tmp_path, "a,a.exr,,,")
    for address in ("http://127.0.0.1:1", "http://", "not an address", "ftp://127.0.0.1"):
        error = queue_command(monkeypatch, capsys, shots, "--server", address)
        assert ("No ComfyUI was reached" in error) == address.startswith("http"), error
        assert len(error.splitlines()) == 1


def test_something_else_that_answers(comfyui, monkeypatch):
    with pytest.raises(DelitError, match="does not answer as ComfyUI does"):
        ComfyUI(f"{comfyui.address}/elsewhere").nodes()
