"""The shipped workflows in ComfyUI's real front end, in headless Chromium: opened, whole, queued, finished, seen.

Screenshots are kept in artifacts/.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.comfy.comfyui import ARTIFACTS, REPOSITORY, ComfyServer
from tests.comfy.pages import DIALOGS
from tests.comfy.stand_ins import NAMED_BY, put_stand_ins, remove_stand_ins
from tests.comfy.workflow_json import to_graph

WORKFLOWS = sorted(path.stem for path in (REPOSITORY / "workflows").glob("*.json"))
RUN_AS_THEY_ARE = [name for name in WORKFLOWS if name not in NAMED_BY]

# Everything about the open graph that is wrong: [] for a whole one.
TROUBLES = """() => {
  const troubles = [];
  const graph = app.graph;
  for (const node of graph.nodes) {
    if (!LiteGraph.registered_node_types[node.type]) troubles.push(`unknown node ${node.type}`);
    if (node.has_errors) troubles.push(`${node.type} shows an error`);
    for (const input of node.inputs ?? []) {
      if (input.link != null && !graph.links.get(input.link)) troubles.push(`${node.type}.${input.name}: lost link`);
    }
  }
  for (const link of graph.links.values()) {
    const output = graph.getNodeById(link.origin_id)?.outputs?.[link.origin_slot];
    const input = graph.getNodeById(link.target_id)?.inputs?.[link.target_slot];
    const name = `link ${link.id}`;
    if (!output || !input) troubles.push(`${name} has an end that is not there`);
    else if (!LiteGraph.isValidConnection(output.type, input.type))
      troubles.push(`${name} joins ${output.type} to ${input.type}`);
    else if (input.link !== link.id) troubles.push(`${name} is not at its input`);
  }
  return troubles;
}"""
# The graph's nodes that show pictures, and whether the browser has loaded them all.
SHOWN = """() => Object.fromEntries(app.graph.nodes.filter(node => node.imgs?.length)
  .map(node => [node.id, node.imgs.every(image => image.naturalWidth > 0)]))"""
FIT = "() => app.extensionManager.command.execute('Comfy.Canvas.FitView')"


@pytest.fixture(scope="module", autouse=True)
def wan_files(running_server: ComfyServer) -> Iterator[None]:
    """Files under the names of Wan's, from before the page asks for them: else it speaks of missing models."""
    put_stand_ins(running_server.models)
    yield
    remove_stand_ins(running_server.models)


def wait_for_the_run(
    server: ComfyServer, earlier: set[str], seconds: float = 300
) -> tuple[str, dict[str, Any]]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        new = {key: entry for key, entry in server.get("/history").items() if key not in earlier}
        if new:
            return next(iter(new.items()))
        time.sleep(0.2)
    raise AssertionError(f"not done after {seconds} s")


def open_whole(server: ComfyServer, page: Any, name: str) -> None:
    """Open a shipped workflow: nothing of it is missing, and the front end sends what the tests send."""
    place = f"/api/workflow_templates/{server.pack_name}/{name}.json"
    page.evaluate("async place => app.loadGraphData(await (await fetch(place)).json(), true, true)", place)
    page.wait_for_timeout(1500)
    assert page.evaluate(DIALOGS) == [], "a dialog, such as that of missing nodes, came up"
    assert page.evaluate(TROUBLES) == []

    workflow = server.get(place)
    types = page.evaluate("() => app.graph.nodes.map(node => node.type)")
    assert sorted(types) == sorted(node["type"] for node in workflow["nodes"])
    assert page.evaluate("() => app.graph.links.size") == len(workflow["links"])
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    # A front end adds the widget of its own preview ("video-preview") to the inputs of a node that loads a video.
    sent = {
        key: {
            "class_type": node["class_type"],
            "inputs": {name: value for name, value in node["inputs"].items() if name != "video-preview"},
        }
        for key, node in sent.items()
    }
    assert sent == to_graph(workflow, server.get("/object_info"))


@pytest.mark.browser
@pytest.mark.parametrize("name", RUN_AS_THEY_ARE)
def test_a_shipped_workflow(server: ComfyServer, page: Any, name: str) -> None:
    open_whole(server, page, name)
    shown_before = page.evaluate(SHOWN)
    earlier = set(server.get("/history"))
    page.evaluate("() => app.queuePrompt(0)")
    prompt_id, entry = wait_for_the_run(server, earlier)
    assert server.wait_for(prompt_id).error is None
    assert entry["status"]["status_str"] == "success"

    showing = {
        key
        for key, output in entry["outputs"].items()
        if output.get("images") and not any(output.get("animated", []))
    }
    assert showing, "no node shows a picture"
    assert not showing & set(shown_before), "pictures of another graph"
    page.evaluate(FIT)
    page.wait_for_function(
        f"shown => {{ const now = ({SHOWN})(); return shown.every(id => now[id]); }}",
        arg=sorted(showing),
        timeout=30_000,
    )
    page.wait_for_timeout(1000)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}-comfyui-{server.checkout.version}.png")
    assert page.evaluate(TROUBLES) == [] and page.evaluate(DIALOGS) == []


@pytest.mark.browser
@pytest.mark.parametrize("name", sorted(NAMED_BY))
def test_a_shipped_workflow_with_wan_opens(server: ComfyServer, page: Any, name: str) -> None:
    """Wan's own files are not here; test_wan_workflows.py runs these as far as they go without."""
    open_whole(server, page, name)
    page.evaluate(FIT)
    page.wait_for_timeout(1000)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}-comfyui-{server.checkout.version}.png")


@pytest.mark.browser
def test_a_graph_with_an_unknown_node_is_told_apart(server: ComfyServer, page: Any) -> None:
    """That the checks above see a missing node: the same workflow with one that is not installed."""
    workflow = json.loads((REPOSITORY / "workflows" / "delit_portrait.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "DelitPortrait":
            node["type"] = "DelitPortraitThatIsNotInstalled"
    page.evaluate("graph => app.loadGraphData(graph)", workflow)
    page.wait_for_timeout(1500)
    assert page.evaluate(TROUBLES) != []
