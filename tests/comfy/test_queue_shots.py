"""A shot list through a real ComfyUI, without its front end: the command as a studio runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from delit_models.color import srgb_to_linear
from delit_models.image_files import read_image, write_image
from delit_models.pipeline import DelitOptions
from delit_models.plate_files import read_plate, write_plate
from tests.comfy import graphs
from tests.comfy.comfyui import ComfyServer
from tests.comfy.test_equal_to_pipeline import embedded_pipeline
from tests.queue_command import queue_command

HEAD = "shot,source,mask,first,last,coding,gain,matte,bit_depth,sequence"
ROWS = (
    "sh010,studio/a.####.exr,studio/m.####.png,1002,1003,ACEScg,,yes,float,",
    "sh020,studio/still.png,,,,sRGB,no,,,no",
    "sh030,studio/nowhere.exr,,,,ACEScg,,,,",
    "sh040,studio/a.####.exr,,,1002,ACEScg,,,,",
)


def put_plates(folder: Path) -> torch.Tensor:
    """Three frames that pan, a still, and masks: of frame 1002 nothing, of 1003 all."""
    plates = srgb_to_linear(torch.from_numpy(graphs.picture(64, 72))) * 2
    plates = torch.cat([plates.roll(2 * index, dims=2) for index in range(3)])
    for index, pixels in enumerate(plates):
        write_plate(folder / f"a.{1001 + index}.exr", pixels, pixel_type="float", coding="ACEScg")
        write_image(folder / f"m.{1001 + index}.png", torch.full((64, 72, 1), float(index == 2)))
    write_image(folder / "still.png", torch.from_numpy(graphs.picture(64, 72, seed=5)[0]))
    return plates


def test_a_shot_list_through_the_server(server: ComfyServer, monkeypatch, capsys, tmp_path: Path) -> None:
    plates = put_plates(server.input / "studio")
    shots = tmp_path / "shots.csv"
    shots.write_text("\n".join((HEAD, *ROWS)))
    record = tmp_path / "shots_queue"
    asked = (shots, "--server", server.url, "--input", server.input)
    error = queue_command(monkeypatch, capsys, *asked)
    assert "✗ sh030 (line 4)" in error and "✗ sh040 (line 5)" in error and "2 of 4 failed" in error
    said = json.loads((record / "report.json").read_text())
    assert (said["done"], [failure["shot"] for failure in said["failed"]]) == (2, ["sh030", "sh040"])
    assert "nowhere.exr" in said["failed"][0]["reason"] and "first" in said["failed"][1]["reason"]

    results = server.output / "shots"
    assert {path.name for path in (results / "sh010").iterdir()} == {
        "env.0001.exr", "flat_v001.1002.exr", "flat_v001.1003.exr", "gain_v001.1002.exr", "gain_v001.1003.exr",
        "matte_v001.1002.png", "matte_v001.1003.png",
    }  # fmt: skip
    assert {path.name for path in (results / "sh020").iterdir()} == {"env.0001.exr", "flat_v001.exr"}
    expected = embedded_pipeline()(
        plates[1:],
        torch.stack([torch.zeros(64, 72), torch.ones(64, 72)]),
        DelitOptions(coding="ACEScg", clip=True),
    )
    for index, frame in enumerate((1002, 1003)):
        flat = read_plate(results / "sh010" / f"flat_v001.{frame}.exr")
        assert flat.coding == "ACEScg"
        np.testing.assert_allclose(flat.pixels, expected.flat[index], rtol=2e-2, atol=2e-3)
    torch.testing.assert_close(read_plate(results / "sh010" / "flat_v001.1002.exr").pixels, plates[1])
    still = read_image(server.input / "studio" / "still.png")[None]
    flat = srgb_to_linear(embedded_pipeline()(still, options=DelitOptions()).flat[0])
    np.testing.assert_allclose(
        read_plate(results / "sh020" / "flat_v001.exr").pixels, flat, rtol=2e-2, atol=2e-3
    )

    # What failed and was mended is done; what changed and what is gone is done again; the rest is left.
    write_plate(server.input / "studio" / "nowhere.exr", plates[0], coding="ACEScg")
    shots.write_text("\n".join((HEAD, *ROWS[:3])))
    (results / "sh020" / "flat_v001.exr").unlink()
    assert not queue_command(monkeypatch, capsys, *asked)
    said = json.loads((record / "report.json").read_text())
    assert (said["asked"], said["done"], said["done_before"]) == (3, 2, 1)
    assert (results / "sh030" / "flat_v001.exr").exists() and (results / "sh020" / "flat_v001.exr").exists()
    assert not list((results / "sh010").glob("*_v002*"))
    write_image(server.input / "studio" / "m.1003.png", torch.full((64, 72, 1), 0.5))
    assert not queue_command(monkeypatch, capsys, *asked)
    assert (results / "sh010" / "flat_v002.1003.exr").exists()


@pytest.mark.parametrize(
    ("workflow", "told"),
    [
        ({"1": {"class_type": "SaveImage", "inputs": {}}}, "0 “Load Plate"),
        ({"1": {"class_type": "NobodyKnowsThis", "inputs": {}}}, "no node NobodyKnowsThis"),
        ({"1": 5}, "no workflow"),
        ([], "no workflow"),
    ],
)
def test_what_is_no_workflow_for_shots_is_told(
    server: ComfyServer, monkeypatch, capsys, tmp_path: Path, workflow: object, told: str
) -> None:
    (tmp_path / "shots.csv").write_text("\n".join((HEAD, *ROWS)))
    (tmp_path / "workflow.json").write_text(json.dumps(workflow))
    asked = (tmp_path / "shots.csv", "--server", server.url, "--workflow", tmp_path / "workflow.json")
    error = queue_command(monkeypatch, capsys, *asked)
    assert told in error and len(error.splitlines()) == 1
