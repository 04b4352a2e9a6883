"""The shipped workflows with Wan, as far as they go without Wan's own files.

Links and inputs fit every version's nodes; without the files nothing but those files is missing; with small stand-ins
(stand_ins.py) all of both graphs runs but the text encoder. What Wan itself makes of them is not seen here.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from delit_models.env_map_files import read_env_map
from delit_models.image_files import read_image
from tests.comfy import stand_ins
from tests.comfy.comfyui import REPOSITORY, ComfyServer, Graph
from tests.comfy.workflow_json import to_graph

START_FRAME, TEXT_TO_VIDEO = "delit_wan_start_frame", "delit_wan_text_to_video"
SAMPLERS = ("KSampler", "KSamplerAdvanced")
SIDE, FRAMES = 64, 5
SMALL = {
    "WanImageToVideo": {"width": SIDE, "height": SIDE, "length": FRAMES},
    "EmptyHunyuanLatentVideo": {"width": SIDE, "height": SIDE, "length": FRAMES},
    "KSampler": {"steps": 2},
    "KSamplerAdvanced": {"steps": 2},
}


@pytest.fixture
def wan_server(server: ComfyServer) -> Iterator[ComfyServer]:
    """The session's server with the stand-ins in its models folder, for one test."""
    stand_ins.put_stand_ins(server.models)
    yield server
    stand_ins.remove_stand_ins(server.models)


def opened(name: str) -> dict[str, Any]:
    return json.loads((REPOSITORY / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def queue(server: ComfyServer, graph: Graph) -> dict[str, Any]:
    """The server's answer to a graph, accepted or refused."""
    body = json.dumps({"prompt": graph, "client_id": "delit-tests"}).encode()
    request = urllib.request.Request(
        f"{server.url}/prompt", body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        return json.load(refusal)


def small(graph: Graph) -> Graph:
    """The graph with the pictures, clip and steps of a test."""
    for node in graph.values():
        changes = SMALL.get(node["class_type"], {})
        assert set(changes) <= set(node["inputs"])
        node["inputs"].update(changes)
        if node["class_type"] == "KSamplerAdvanced":
            last = node["inputs"]["start_at_step"] > 0
            node["inputs"]["start_at_step" if last else "end_at_step"] = 1
    return graph


def new_files(server: ComfyServer, before: set[Path]) -> dict[str, Path]:
    """The files saved since, by the part of their name before the counter."""
    saved = [path for path in set(server.output.rglob("*")) - before if path.is_file()]
    assert all(path.parent == server.output / "delit" for path in saved)
    return {re.split(r"[._]0", path.name)[0]: path for path in saved}


def video_frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("name", sorted(stand_ins.NAMED_BY))
def test_every_node_and_link_fits_this_version(server: ComfyServer, name: str) -> None:
    info, workflow = server.get("/object_info"), opened(name)
    nodes = {node["id"]: node for node in workflow["nodes"] if node["type"] != "MarkdownNote"}
    for node in nodes.values():
        assert node["type"] in info
    for _, origin, output, target, socket, kind in workflow["links"]:
        declared = info[nodes[target]["type"]]["input"]
        declared = {**declared.get("required", {}), **declared.get("optional", {})}
        assert info[nodes[origin]["type"]]["output"][output] == kind
        assert declared[nodes[target]["inputs"][socket]["name"]][0] == kind


@pytest.mark.parametrize("name", sorted(stand_ins.NAMED_BY))
def test_without_the_files_nothing_but_them_is_missing(server: ComfyServer, name: str) -> None:
    before = set(server.output.rglob("*"))
    answer = queue(server, to_graph(opened(name), server.get("/object_info")))
    errors = [error for node in answer["node_errors"].values() for error in node["errors"]]
    assert {error["type"] for error in errors} == {"value_not_in_list"}
    missing = {error["extra_info"]["received_value"] for error in errors}
    assert missing == {Path(file).name for file in stand_ins.NAMED_BY[name]}
    if name == TEXT_TO_VIDEO:
        assert "prompt_id" not in answer
    else:
        # What needs no file of Wan's runs all the same: the flat-lit image and its light are saved.
        assert server.wait_for(answer["prompt_id"]).error is None
        saved = new_files(server, before)
        assert set(saved) == {"flat", "env"}
        assert read_image(saved["flat"]).shape == (512, 512, 3)


@pytest.mark.parametrize("name", sorted(stand_ins.NAMED_BY))
def test_with_the_files_the_server_takes_the_whole_graph(wan_server: ComfyServer, name: str) -> None:
    answer = queue(wan_server, small(to_graph(opened(name), wan_server.get("/object_info"))))
    assert answer["node_errors"] == {}
    # It stops where the words are needed, for the text encoder's stand-in is none: the tests below go on without.
    assert wan_server.wait_for(answer["prompt_id"]).error_node in ("CLIPLoader", "CLIPTextEncode", *SAMPLERS)


def run_small(server: ComfyServer, name: str) -> tuple[Graph, dict[str, Path]]:
    graph = small(to_graph(opened(name), server.get("/object_info")))
    before = set(server.output.rglob("*"))
    run = server.run(stand_ins.without_text_encoder(server, graph))
    assert run.error is None
    return graph, new_files(server, before)


def test_the_flat_lit_image_starts_a_video(wan_server: ComfyServer) -> None:
    graph, saved = run_small(wan_server, START_FRAME)
    (wan,) = (node for node in graph.values() if node["class_type"] == "WanImageToVideo")
    origin, output = wan["inputs"]["start_image"]
    assert graph[origin]["class_type"] == "DelitPortrait" and output == 0
    assert set(saved) == {"flat", "env", "wan_flat"}
    assert video_frames(saved["wan_flat"]).shape == (FRAMES, SIDE, SIDE, 3)


def test_the_light_is_taken_off_a_generated_video(wan_server: ComfyServer) -> None:
    graph, saved = run_small(wan_server, TEXT_TO_VIDEO)
    users = [node for node in graph.values() if "vae" in node["inputs"]]
    assert {node["class_type"] for node in users} == {"VAEDecode", "DelitPortrait"}
    assert len({tuple(node["inputs"]["vae"]) for node in users}) == 1, "one VAE for both"
    assert set(saved) == {"wan", "wan_flat", "env"}
    relit, flat = video_frames(saved["wan"]), video_frames(saved["wan_flat"])
    assert relit.shape == flat.shape == (FRAMES, SIDE, SIDE, 3)
    assert np.abs(relit.astype(float) - flat).mean() > 1, "nothing was changed"
    assert read_env_map(saved["env"]).radiance.shape == (128, 256, 3)
