"""The front end's workflow format → the graph that its server takes, as the front end itself converts it.

The browser tests compare this with the front end's own `app.graphToPrompt`.
"""

from __future__ import annotations

from typing import Any

from tests.comfy.comfyui import Graph

NOT_SENT = {"Note", "MarkdownNote"}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
MUTED, BYPASSED = 2, 4


def to_graph(workflow: dict[str, Any], object_info: dict[str, Any]) -> Graph:
    """A workflow without subgraphs, reroutes or bypassed nodes → the API's format."""
    links = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    graph: Graph = {}
    for node in workflow["nodes"]:
        if node["type"] in NOT_SENT:
            continue
        if node.get("mode", 0) in (MUTED, BYPASSED):
            raise ValueError(f"node {node['id']} ({node['type']}) is muted or bypassed: not handled here")
        inputs = _widget_values(node, object_info[node["type"]]["input"])
        for socket in node.get("inputs", []):
            if socket.get("link") is not None:
                inputs[socket["name"]] = list(links[socket["link"]])
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


def _widget_values(node: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    names = []
    for name, specification in {**declared.get("required", {}), **declared.get("optional", {})}.items():
        options = specification[1] if len(specification) > 1 else {}
        is_widget = isinstance(specification[0], list) or specification[0] in WIDGET_TYPES
        if is_widget and not options.get("forceInput"):
            names.append(name)
            if options.get("image_upload") or options.get("control_after_generate"):
                names.append(None)  # a button or a second widget, with a value that is not sent
    values = node.get("widgets_values", [])
    if isinstance(values, dict):
        return {name: values[name] for name in names if name in values}
    return {name: value for name, value in zip(names, values, strict=False) if name is not None}
