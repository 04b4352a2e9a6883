"""The front end's workflow format → the graph that its server takes, as the front end itself converts it.

The browser tests compare this with the front end's own `app.graphToPrompt`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from delit_models.errors import DelitError

Graph = dict[str, dict[str, Any]]
"""Node id → {"class_type": …, "inputs": {name: value, or [node id, output's number]}}."""

NOT_SENT = {"Note", "MarkdownNote"}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# A choice with widgets of its own for each option, as newer versions' “Save Video” has.
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
MUTED, BYPASSED = 2, 4


def to_graph(workflow: dict[str, Any], object_info: dict[str, Any]) -> Graph:
    """A workflow without subgraphs, reroutes or bypassed nodes → the API's format."""
    links = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    graph: Graph = {}
    for node in workflow["nodes"]:
        if node["type"] in NOT_SENT:
            continue
        if node.get("mode", 0) in (MUTED, BYPASSED):
            raise DelitError(
                f"Node {node['id']} ({node['type']}) is muted or bypassed: delete it, or export the workflow in "
                "the API format."
            )
        if node["type"] not in object_info:
            raise DelitError(
                f"The server has no node {node['type']}: install its pack, or take another workflow."
            )
        inputs = _widget_values(node, object_info[node["type"]]["input"])
        for socket in node.get("inputs", []):
            if socket.get("link") is not None:
                inputs[socket["name"]] = list(links[socket["link"]])
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


def _widget_values(node: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    values = node.get("widgets_values", [])
    if isinstance(values, dict):
        return {name: value for name, value in values.items() if name in _declared(declared)}
    sent: dict[str, Any] = {}
    saved = iter(values)
    for name, specification in _declared(declared).items():
        _take(name, specification, saved, sent)
    return sent


def _declared(inputs: dict[str, Any]) -> dict[str, Any]:
    return {**inputs.get("required", {}), **inputs.get("optional", {})}


def _take(name: str, specification: list[Any], saved: Iterator[Any], sent: dict[str, Any]) -> None:
    """An input's widgets: the next saved values, or the defaults where a version has more widgets than were saved."""
    kind, options = specification[0], specification[1] if len(specification) > 1 else {}
    if kind == DYNAMIC:
        sent[name] = next(saved, options["options"][0]["key"])
        chosen = next(option for option in options["options"] if option["key"] == sent[name])
        for inner, inner_specification in _declared(chosen["inputs"]).items():
            _take(f"{name}.{inner}", inner_specification, saved, sent)
    elif (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput"):
        sent[name] = next(saved, _default(kind, options))
        if options.get("image_upload") or options.get("control_after_generate"):
            next(saved, None)  # a button or a second widget, with a value that is not sent


def _default(kind: Any, options: dict[str, Any]) -> Any:
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options", [None])
    return next(iter(choices), None)
