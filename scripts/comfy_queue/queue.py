"""The shots of a list through a ComfyUI server, one after another."""

from __future__ import annotations

import copy
import hashlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

from tqdm import tqdm

from delit_models.errors import DelitError
from delit_models.json_text import read_json
from delit_models.plate_files import frames_of
from training.batch.index import Index
from training.batch.places import state_of
from training.batch.report import Report
from training.batch.shots import Shot, read_shots

from .server import ComfyUI
from .shot_graph import check_workflow, shot_graph
from .workflow_json import Graph, to_graph


def queue_shots(
    shots_file: Path,
    workflow_file: Path,
    server: ComfyUI,
    record: Path,
    prefix: str,
    input_folder: Path | None,
    overwrite: bool,
) -> Report:
    """Run the workflow for every shot that is not done; the index and the report are in the folder `record`.

    `input_folder` is the server's, where it can be seen from here: then plates that have changed are done again.

    Raises:
        DelitError: for a list or a workflow that cannot be used, and a server that is not reached.
    """
    shots, report = read_shots(shots_file), Report()
    nodes = server.nodes()
    workflow = open_workflow(workflow_file, nodes)
    report.pieces = len(shots)
    try:
        with Index(record) as index:
            for shot in tqdm(shots, desc="shots", unit="shot", disable=len(shots) == 1):
                try:
                    graph = shot_graph(workflow, shot, nodes, prefix)
                    inputs = _inputs(graph, shot, input_folder)
                    if not overwrite and _is_done(index, shot.name, inputs, server):
                        report.left += 1
                        continue
                except DelitError as error:
                    report.add_failure(shot.name, f"{shot.name} (line {shot.line})", shot.source, str(error))
                    continue
                started = time.monotonic()
                ran = server.run(_to_be_saved(graph, nodes))
                if ran.reason is not None:
                    report.add_failure(shot.name, f"{shot.name} (line {shot.line})", shot.source, ran.reason)
                    continue
                seconds = round(time.monotonic() - started, 2)
                said = {"source": shot.source, "seconds": seconds, "saved": ran.files}
                index.add(shot.name, inputs, said)
                report.done += 1
    finally:
        report.write(record)
    return report


def open_workflow(file: Path, nodes: dict[str, Any]) -> Graph:
    """A workflow file, as the front end saves it or as it exports it in the API's format.

    Raises:
        DelitError: for what is no workflow, or not one that shots can be put into.
    """
    try:
        said = read_json(file)
        graph = to_graph(said, nodes) if "nodes" in said else said
        unknown = [node["class_type"] for node in graph.values() if node["class_type"] not in nodes]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DelitError):
            raise
        raise DelitError(f"{file} is no workflow of ComfyUI ({type(error).__name__}: {error}).") from error
    if unknown:
        raise DelitError(f"The server has no node {unknown[0]}: install its pack, or take another workflow.")
    check_workflow(graph)
    return graph


def _to_be_saved(graph: Graph, nodes: dict[str, Any]) -> Graph:
    """The graph with an input that no node reads, and that ComfyUI never saw, on all that save: what it remembers of an
    equal graph it would not save again."""
    fresh = copy.deepcopy(graph)
    for node in fresh.values():
        if nodes[node["class_type"]].get("output_node"):
            node["inputs"]["queued"] = uuid.uuid4().hex
    return fresh


def _inputs(graph: Graph, shot: Shot, input_folder: Path | None) -> str:
    """A hash of the graph and, where they can be seen, of the states of the files that it loads."""
    said: list[Any] = [graph]
    if input_folder is not None:
        for name in filter(None, (shot.source, shot.mask)):
            said.append([[file.name, state_of(file)] for file in frames_of(input_folder / name)])
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _is_done(index: Index, name: str, inputs: str, server: ComfyUI) -> bool:
    saved = index.line(name).get("saved")
    return bool(saved) and index.has(name, inputs) and all(server.has_file(file) for file in saved)
