"""Every shipped workflow in the real server, without its front end: whole, run, and what it says is saved is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from delit_models.env_map_files import ORIENTATION_ATTRIBUTE, read_env_map
from delit_models.image_files import read_image
from delit_models.plate_files import read_plate
from tests.comfy.comfyui import REPOSITORY, ComfyServer, Run
from tests.comfy.workflow_inputs import FIRST_FRAME, HIGHLIGHT, PORTRAITS
from tests.comfy.workflow_json import NOT_SENT, to_graph

FILES = sorted((REPOSITORY / "workflows").glob("*.json"))


def opened(name: str) -> dict[str, Any]:
    return json.loads((REPOSITORY / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def run(server: ComfyServer, name: str) -> tuple[Run, set[Path]]:
    """A workflow's run, and the files that it saved, relative to the output folder."""
    before = set(server.output.rglob("*"))
    result = server.run(to_graph(opened(name), server.get("/object_info")))
    assert result.error is None
    saved = {path.relative_to(server.output) for path in set(server.output.rglob("*")) - before}
    return result, {path for path in saved if path.suffix}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_workflow_is_whole(file: Path) -> None:
    """Links end where they say, every node names the pack that it comes from, notes explain it, a picture is there."""
    workflow = json.loads(file.read_text(encoding="utf-8"))
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    name = re.search(r'^name = "(.+)"$', project, re.MULTILINE)[1]
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for node in nodes.values():
        if node["type"] not in NOT_SENT:
            pack = name if node["type"].startswith("Delit") else "comfy-core"
            assert node["properties"]["cnr_id"] == pack, node["type"]
    for link, origin, output, target, socket, kind in workflow["links"]:
        assert link in nodes[origin]["outputs"][output]["links"]
        assert nodes[target]["inputs"][socket]["link"] == link
        assert nodes[origin]["outputs"][output]["type"] == kind
    notes = [node["widgets_values"][0] for node in nodes.values() if node["type"] == "MarkdownNote"]
    assert notes and notes[0].startswith("# ") and "**Run**" in "".join(notes) or "stages" in file.stem
    assert file.with_suffix(".jpg").stat().st_size < 250_000


def test_delit_then_relight(server: ComfyServer) -> None:
    result, saved = run(server, "delit_relight")
    assert {path.parts[0] for path in saved} == {"delit"} and len(saved) == 1
    assert read_image(server.output / saved.pop()).shape == (512, 512, 3)
    said = [output["text"][0] for output in result.outputs.values() if "text" in output]
    assert len(said) == 1 and "Explained" in said[0]


def test_masked(server: ComfyServer) -> None:
    _, saved = run(server, "delit_masked")
    (path,) = saved
    alpha = read_image(server.output / path)[..., 3]
    assert alpha.min() == 0 and alpha.max() == 1 and 0.2 < alpha.mean() < 0.9


def test_a_folder_of_pictures(server: ComfyServer) -> None:
    _, saved = run(server, "delit_batch_folder")
    suffixes = sorted(path.suffix for path in saved)
    assert suffixes == [".exr"] * len(PORTRAITS) + [".png"] * len(PORTRAITS)
    for path in saved:
        if path.suffix == ".exr":
            assert read_env_map(server.output / path).radiance.shape == (128, 256, 3)


def test_plates_in_and_out(server: ComfyServer) -> None:
    _, saved = run(server, "delit_plate_exr")
    names = sorted(path.name for path in saved if not path.name.startswith("env"))
    version = names[0].split("_v")[1][:3]
    frames = (FIRST_FRAME, FIRST_FRAME + 1)
    assert names == [f"{kind}_v{version}.{frame}.exr" for kind in ("flat", "gain") for frame in frames]
    flat, gain, source = (
        read_plate(path).pixels
        for path in (
            server.output / "delit" / "plates" / f"flat_v{version}.{FIRST_FRAME}.exr",
            server.output / "delit" / "plates" / f"gain_v{version}.{FIRST_FRAME}.exr",
            server.input / "plates" / f"portrait.{FIRST_FRAME}.exr",
        )
    )
    # What passes 1 is not clipped, whatever the heads make of it.
    assert source[4, 4].max() == pytest.approx(HIGHLIGHT, rel=1e-3) and flat[4, 4].max() > 1.2
    assert (flat - gain * source).abs().max() < 0.01


def test_the_light_for_blender(server: ComfyServer) -> None:
    result, saved = run(server, "delit_hdri_to_blender")
    (path,) = saved
    assert read_env_map(server.output / path).attributes[ORIENTATION_ATTRIBUTE] == "blender"
    said = "\n".join(output["text"][0] for output in result.outputs.values() if "text" in output)
    assert "bpy" in said
