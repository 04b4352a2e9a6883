"""The shipped blueprints: whole, listed by a real server, run node by node, and added in its front end by search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from delit_models.env_map_files import ORIENTATION_ATTRIBUTE, read_env_map
from tests.comfy.comfyui import ARTIFACTS, REPOSITORY, ComfyServer, Graph
from tests.comfy.graphs import node
from tests.comfy.person import PATIENCE, Person
from tests.comfy.workflow_json import NOT_SENT, to_graph

FILES = sorted((REPOSITORY / "subgraphs").glob("*.json"))
TO_BLENDER, RELIGHT = "Delit Portrait to Blender Light", "Delit and Relight"
# The ids that stand for a subgraph's own inputs and outputs.
INPUTS, OUTPUTS = -10, -20
# What is connected to a blueprint's inputs here: the rendered example portrait's picture and normals.
EXAMPLE = {"image": ["example", 0], "normals": ["example", 1], "env": ["light", 0]}
ADDED = "name => app.graph.nodes.some(node => node.isSubgraphNode?.() && node.title === name)"


def opened(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def inside(file: Path) -> dict[str, Any]:
    (subgraph,) = opened(file)["definitions"]["subgraphs"]
    return subgraph


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_blueprint_is_one_subgraph_with_its_links_whole(server: ComfyServer, file: Path) -> None:
    subgraph, info = inside(file), server.get("/object_info")
    (outer,) = opened(file)["nodes"]
    assert outer["type"] == subgraph["id"] and subgraph["name"] == outer["title"] == file.stem
    assert len(subgraph["description"]) > 40 and subgraph["category"] == "Delit"
    nodes = {entry["id"]: entry for entry in subgraph["nodes"]}
    for entry in nodes.values():
        if entry["type"] not in NOT_SENT:
            assert entry["type"] in info and entry["properties"]["cnr_id"] == "delit"
    for identity, widget in outer["properties"]["proxyWidgets"]:
        assert widget in {socket["name"] for socket in nodes[int(identity)]["inputs"] if "widget" in socket}
    for link in subgraph["links"]:
        if link["origin_id"] == INPUTS:
            assert link["id"] in subgraph["inputs"][link["origin_slot"]]["linkIds"]
        else:
            assert info[nodes[link["origin_id"]]["type"]]["output"][link["origin_slot"]] == link["type"]
        if link["target_id"] == OUTPUTS:
            assert link["id"] in subgraph["outputs"][link["target_slot"]]["linkIds"]
        else:
            assert nodes[link["target_id"]]["inputs"][link["target_slot"]]["link"] == link["id"]


def test_the_server_lists_and_serves_them(server: ComfyServer) -> None:
    listed = {
        key: entry
        for key, entry in server.get("/global_subgraphs").items()
        if entry["info"]["node_pack"] == f"custom_nodes.{server.pack_name}"
    }
    assert {entry["name"] for entry in listed.values()} == {file.stem for file in FILES}
    for key, entry in listed.items():
        served = json.loads(server.get(f"/global_subgraphs/{key}")["data"])
        assert served == opened(REPOSITORY / "subgraphs" / f"{entry['name']}.json")


def unpacked(server: ComfyServer, name: str) -> tuple[Graph, dict[str, list[Any]]]:
    """A blueprint's nodes as a graph, an example at its inputs; and its outputs, by name."""
    subgraph = inside(REPOSITORY / "subgraphs" / f"{name}.json")
    links = [
        [link["id"], link["origin_id"], link["origin_slot"], None, None, None] for link in subgraph["links"]
    ]
    graph = to_graph({"nodes": subgraph["nodes"], "links": links}, server.get("/object_info"))
    for entry in graph.values():
        for socket, value in list(entry["inputs"].items()):
            if isinstance(value, list) and value[0] == str(INPUTS):
                given = EXAMPLE.get(subgraph["inputs"][value[1]]["name"])
                entry["inputs"].pop(socket)
                entry["inputs"].update({socket: given} if given else {})
    graph["example"] = node("DelitExamplePortrait", name="rendered")
    outputs = {
        subgraph["outputs"][link["target_slot"]]["name"]: [str(link["origin_id"]), link["origin_slot"]]
        for link in subgraph["links"]
        if link["target_id"] == OUTPUTS
    }
    return graph, outputs


def texts(outputs: dict[str, Any]) -> str:
    return "\n".join(output["text"][0] for output in outputs.values() if "text" in output)


def test_a_portrait_s_light_goes_to_blender(server: ComfyServer) -> None:
    graph, outputs = unpacked(server, TO_BLENDER)
    graph["shown"] = node("PreviewAny", source=outputs["blender"])
    before = set(server.output.rglob("*.exr"))
    run = server.run(graph)
    assert run.error is None
    (saved,) = set(server.output.rglob("*.exr")) - before
    assert read_env_map(saved).attributes[ORIENTATION_ATTRIBUTE] == "blender"
    assert "bpy" in texts(run.outputs)


def test_a_portrait_is_relit(server: ComfyServer) -> None:
    graph, outputs = unpacked(server, RELIGHT)
    # The light of the photograph.
    graph["photograph"] = node("DelitExamplePortrait", name="photograph")
    portrait = next(entry for entry in graph.values() if entry["class_type"] == "DelitPortrait")
    graph["light_of"] = node("DelitPortrait", **{**portrait["inputs"], "image": ["photograph", 0]})
    for entry in graph.values():
        for socket, value in entry["inputs"].items():
            if value == EXAMPLE["env"]:
                entry["inputs"][socket] = ["light_of", 1]
    graph["shown"] = node("PreviewAny", source=outputs["how_well"])
    for name in ("relit", "flat"):
        graph[name] = node("TestDump", file=f"{name}.npy", image=outputs[name])
    run = server.run(graph)
    assert run.error is None
    assert "Explained" in texts(run.outputs)
    relit, flat = server.dumped("relit.npy"), server.dumped("flat.npy")
    assert relit.shape == flat.shape and abs(relit - flat).mean() > 0.01


@pytest.mark.browser
@pytest.mark.parametrize("name", [TO_BLENDER, RELIGHT])
def test_the_front_end_adds_one_by_search(server: ComfyServer, page: Any, name: str) -> None:
    page.evaluate("() => app.graph.clear()")
    person = Person(page, ARTIFACTS / "blueprints" / server.checkout.version)
    person.add_node(name, [800, 500])
    page.wait_for_function(ADDED, arg=name, timeout=PATIENCE)
    person.photograph(name.replace(" ", "_").lower())
    added = page.evaluate(
        """name => { const node = app.graph.nodes.find(node => node.title === name);
        return [node.inputs.map(input => input.name), node.outputs.map(output => output.name)]; }""",
        name,
    )
    subgraph = inside(REPOSITORY / "subgraphs" / f"{name}.json")
    assert [entry["name"] for entry in subgraph["inputs"]] == [
        i for i in added[0] if i in EXAMPLE or i == "mask"
    ]
    assert [entry["name"] for entry in subgraph["outputs"]] == added[1]
