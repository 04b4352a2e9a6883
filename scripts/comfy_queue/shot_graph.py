"""A workflow that loads a plate, made the graph of one shot: its plate, its settings, its names."""

from __future__ import annotations

import copy
from typing import Any

from delit_models.coding import SRGB
from delit_models.errors import DelitError
from training.batch.shots import Shot

from .workflow_json import Graph

FORMATS = {"half": "exr half", "float": "exr float", "16": "png 16 bit"}
"""bit_depth of a list → format of Save Plate."""

# Settings that a list has and that are inputs of the same name; the others are dealt with below.
_INPUTS = ("coding", "exposure", "area", "outside", "working_size", "env_pooling", "orientation")


def shot_graph(workflow: Graph, shot: Shot, nodes: dict[str, Any], prefix: str) -> Graph:
    """The graph of a shot.

    Args:
        workflow: a graph with one Load Plate.
        shot: its source and mask are as Load Plate lists them, in the server's input folder.
        nodes: the server's node classes.
        prefix: folder for results in the server's output folder; each shot gets one below it.

    Raises:
        DelitError: for what the workflow cannot give.
    """
    graph = copy.deepcopy(workflow)
    (loader,) = _of_class(graph, "DelitLoadPlate") or [None]
    graph[loader]["inputs"] |= {"file": shot.source, **_frames(shot)}
    settings = {name: shot.settings[name] for name in _INPUTS if name in shot.settings}
    if shot.mask:
        _add_mask(graph, shot, nodes)
    if shot.settings.get("matte"):
        _add_matte(graph, nodes, loader)
    settings["mode"] = "clip" if shot.settings["sequence"] and "#" in shot.source else "stills"
    for name, value in settings.items():
        for node in _with_input(graph, name, nodes):
            node["inputs"][name] = value
    _name_results(graph, shot, nodes, f"{prefix}/{shot.name}")
    return graph


def check_workflow(graph: Graph) -> None:
    """Raise DelitError for a workflow that is not about one plate."""
    count = len(_of_class(graph, "DelitLoadPlate"))
    if count != 1:
        raise DelitError(
            f"The workflow has {count} “Load Plate (Delit)” nodes; a queue of shots fills in exactly one."
        )
    if not _of_class(graph, "DelitSavePlate"):
        raise DelitError("The workflow has no “Save Plate (Delit)” node: nothing would be kept.")


def _of_class(graph: Graph, name: str) -> list[str]:
    return [key for key, node in graph.items() if node["class_type"] == name]


def _with_input(graph: Graph, name: str, nodes: dict[str, Any]) -> list[dict[str, Any]]:
    """Nodes of Delit that have this input, and nothing connected to it."""
    return [
        node
        for node in graph.values()
        if node["class_type"].startswith("Delit")
        and any(name in group for group in nodes[node["class_type"]]["input"].values())
        and not isinstance(node["inputs"].get(name), list)
    ]


def _frames(shot: Shot) -> dict[str, int]:
    if shot.last and not shot.first:
        raise DelitError(f"{shot.name} has a last frame and no first: a queue needs both.")
    if shot.last and shot.last < shot.first:
        raise DelitError(f"{shot.name} ends with frame {shot.last}, before its first, {shot.first}.")
    return {"first_frame": shot.first, "frames": shot.last - shot.first + 1 if shot.last else 0}


def _add_mask(graph: Graph, shot: Shot, nodes: dict[str, Any]) -> None:
    graph["shot mask"] = {
        "class_type": "DelitLoadPlate",
        "inputs": {"file": shot.mask, "first_frame": 0, "frames": 0}
        | (_frames(shot) if "#" in shot.mask else {}),
    }
    graph["shot mask, one channel"] = {
        "class_type": "ImageToMask",
        "inputs": {"image": ["shot mask", 0], "channel": "red"},
    }
    for node in _with_input(graph, "mask", nodes):
        node["inputs"]["mask"] = ["shot mask, one channel", 0]


def _add_matte(graph: Graph, nodes: dict[str, Any], loader: str) -> None:
    found = [
        [key, nodes[node["class_type"]]["output_name"].index("matte")]
        for key, node in graph.items()
        if "matte" in nodes[node["class_type"]]["output_name"]
    ]
    if not found:
        raise DelitError("No node of the workflow gives a matte.")
    graph["shot matte"] = {"class_type": "MaskToImage", "inputs": {"mask": found[0]}}
    graph["save matte"] = {
        "class_type": "DelitSavePlate",
        "inputs": {
            "images": ["shot matte", 0],
            "plate_info": [loader, 2],
            "filename_prefix": "matte",
            "format": "png 16 bit",
            "coding": SRGB,
        },
    }


def _name_results(graph: Graph, shot: Shot, nodes: dict[str, Any], folder: str) -> None:
    depth = shot.settings.get("bit_depth", "half")
    if depth not in FORMATS:
        raise DelitError(
            f"{shot.name}: Save Plate writes no bit_depth {depth}; give one of {', '.join(FORMATS)}."
        )
    for key in [*_of_class(graph, "DelitSavePlate"), *_of_class(graph, "DelitSaveEnvMap")]:
        inputs = graph[key]["inputs"]
        inputs["filename_prefix"] = f"{folder}/{str(inputs['filename_prefix']).rsplit('/', 1)[-1]}"
        kind = _output_name(graph, inputs.get("images"), nodes)
        if key == "save matte":
            inputs["coding"] = SRGB
        elif kind == "gain":
            if shot.settings.get("gain") is False:
                del graph[key]
            elif inputs["coding"] == SRGB:
                # A gain is linear whatever it was made from.
                inputs["coding"] = "linear Rec.709"
        elif kind == "flat" and "bit_depth" in shot.settings:
            inputs["format"] = FORMATS[depth]


def _output_name(graph: Graph, link: object, nodes: dict[str, Any]) -> str:
    if not isinstance(link, list):
        return ""
    return nodes[graph[link[0]]["class_type"]]["output_name"][link[1]]
