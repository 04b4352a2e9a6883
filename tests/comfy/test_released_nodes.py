"""The nodes keep what the last release promised: graphs that were saved with it run unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.comfy.comfyui import ComfyServer
from tests.comfy.released_nodes import MIGRATED, breaks, contract, read_snapshot
from tests.comfy.workflow_json import to_graph

RELEASED = read_snapshot()["nodes"]
# Of every release, what it shipped: workflows as users saved them then.
SAVED = sorted((Path(__file__).parent / "saved_workflows").glob("*/*.json"))


@pytest.mark.parametrize("node", sorted(RELEASED))
def test_a_released_node_keeps_its_promises(server: ComfyServer, node: str) -> None:
    info = server.get(f"/object_info/{node}")
    assert node in info, "a released node is gone: saved graphs show it red"
    assert set(breaks(RELEASED[node], contract(info[node]))) == MIGRATED.get(node, set())


@pytest.mark.parametrize("saved", SAVED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_workflow_saved_with_a_release_runs(server: ComfyServer, saved: Path) -> None:
    graph = to_graph(json.loads(saved.read_text(encoding="utf-8")), server.get("/object_info"))
    run = server.run(graph)
    assert run.error is None
    pictures = [image for output in run.outputs.values() for image in output.get("images", [])]
    assert len(pictures) >= 3, "flat-lit image and light are shown"
