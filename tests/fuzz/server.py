"""Prompts as no front end posts them, at every Delit node of a real ComfyUI server: values of wrong types and without
bounds, inputs missing and too many, links to nowhere, to themselves and to other types, and tensors of any kind.

Each is refused by ComfyUI's validation, or fails in a node with a DelitError, or gives pictures that are sound; and the
server answers afterwards. What fails in other nodes than Delit's is not judged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from delit_models.errors import DelitError
from tests.comfy import graphs
from tests.comfy.comfyui import ComfyServer, Graph, Run

from .commands import furnished
from .harness import Case, Fault, Kind, files_below

CASES = 400
_LINKS: dict[str, list[list[Any]]] = {
    "IMAGE": [["image", 0], ["image", 0], ["clip", 0], ["map", 0], ["plate", 0]],
    "MASK": [["image", 1], ["apply", 2], ["plate", 1]],
    "LATENT": [["encode", 0], ["apply", 0], ["image", 2]],
    "VAE": [["vae", 0]],
    "DELIT_MODEL": [["model", 0]],
    "ENV_CODE": [["apply", 1]],
    "DELIT_PLATE_INFO": [["plate", 2]],
    "VIDEO": [["video", 0]],
    "CONDITIONING": [["image", 3]],
    "STRING": [["plate", 3]],
}
_ODD_LINKS = [
    *(["image", 99], ["image", -1], ["image", "0"], ["image"], ["image", 0, 0], ["nowhere", 0], ["tried", 0]),
    *([["image", 0], 0], [0, 0], [None, 0], ["image", 0.5], ["image", None], ["image", True]),
]
_ODD_VALUES = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        63,
        65,
        2**31,
        2**63,
        -(2**64),
        10**30,
        0.5,
        1e308,
        -1e-320,
        math.nan,
        math.inf,
    ),
    *(
        "",
        " ",
        ".",
        "..",
        "../../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "C:\\windows",
        "\0",
        "a\nb",
        "%date%",
    ),
    *(
        "x" * 5000,
        "\ud800",
        "日本語",
        "<script>alert(1)</script>",
        "person.png",
        "shot/plate.####.exr",
        "fake.png",
    ),
    *([], {}, [1], {"a": 1}, [[]], "1", "true", "NaN"),
]


def _tensors() -> dict[str, np.ndarray]:
    """Arrays for the probe pack's TestTensor, sound ones and others."""
    sound = graphs.picture()
    broken = graphs.picture()
    broken[0, 3, 4, 1] = np.nan
    return {
        "picture": sound,
        "odd sides": graphs.picture(65, 71),
        "alpha": graphs.picture(channels=4),
        "small": graphs.picture(8, 8),
        "flat": graphs.picture(64, 1),
        "nan": broken,
        "bright": sound * 1e30,
        "negative": -sound,
        "none": np.zeros((0, 64, 64, 3), np.float32),
        "no pixels": np.zeros((1, 0, 0, 3), np.float32),
        "two": graphs.picture(channels=2),
        "five dimensions": sound[None],
        "one dimension": sound[0, 0, 0],
        "number": np.float32(0.5).reshape(()),
        "double": sound.astype(np.float64),
        "half": sound.astype(np.float16),
        "bytes": (sound * 255).astype(np.uint8),
        "complex": sound.astype(np.complex64),
        "truth": sound > 0.5,
        "latent": np.zeros((1, 16, 8, 8), np.float32),
        "latent of stable diffusion": np.zeros((1, 4, 8, 8), np.float32),
    }


class _Posting:
    """A server with the files and nodes that prompts are made of."""

    def __init__(self, server: ComfyServer) -> None:
        self.server = server
        self.nodes = {
            name: told for name, told in server.get("/object_info").items() if name.startswith("Delit")
        }
        for name, content in furnished().items():
            path = server.input / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.tensors = {name: server.put_array(f"tensor {name}", x) for name, x in _tensors().items()}
        server.put_array("clip", graphs.picture(batch=3))
        server.put_array("map", graphs.picture(16, 32))
        self.numbers = itertools.count()

    def base(self, tensor: str) -> Graph:
        """A node of every kind that others can be linked to; ComfyUI runs those that are."""
        stages = graphs.stages(self.server, graphs.picture())
        return {
            **{name: stages[name] for name in ("vae", "model", "encode", "apply")},
            "image": graphs.node("TestTensor", file=self.tensors[tensor]),
            "clip": graphs.node("TestTensor", file="clip.npy"),
            "map": graphs.node("TestTensor", file="map.npy"),
            "plate": graphs.node("DelitLoadPlate", file="shot/plate.####.exr", first_frame=0, frames=0),
            "video": graphs.node("LoadVideo", file="clip.mp4"),
        }

    def inputs(self, node: str) -> Iterator[tuple[str, Any, dict[str, Any], bool]]:
        """(name, type, what is told of it, whether it is needed) of each of a node's inputs."""
        for group, needed in (("required", True), ("optional", False)):
            for name, told in self.nodes[node]["input"].get(group, {}).items():
                yield name, told[0], told[1] if len(told) > 1 else {}, needed

    def run(self, graph: Graph, told: str) -> None:
        server = self.server
        before = files_below(server.output)
        run = server.run(graph, seconds=200)
        if not server.alive():
            raise Fault("the server does not answer afterwards")
        after = files_below(server.output)
        dumps = [name for name in after if name.startswith("tried-")]
        try:
            self._judge(run, [server.output / name for name in dumps])
        finally:
            for name in dumps:
                (server.output / name).unlink()
            if lost := [name for name in before if after.get(name) != before[name]]:
                raise Fault(f"{told}: a prompt lost or overwrote an output of kind *{Path(lost[0]).suffix}")
            if [name for name in after if Path(name).name.startswith(".")]:
                raise Fault(f"{told}: a part of a file was left in the output folder")

    def _judge(self, run: Run, dumps: list[Path]) -> None:
        if run.refused:
            if run.refused >= 500 and "delit" in (run.error or "").lower():
                raise Fault(f"the server failed at a Delit prompt: {(run.error or '')[-200:]}")
            raise DelitError(f"refused by ComfyUI: {run.error}"[:500])
        if run.error is not None:
            ours = (run.error_node or "").startswith("Delit")
            kind = (run.error_type or "").rsplit(".", 1)[-1]
            if ours and kind not in ("DelitError", "CheckpointError", "DependencyCycleError"):
                raise Fault(
                    f"{run.error_node} failed with {run.error_type}: {run.error.splitlines()[0][:200]}"
                )
            raise DelitError(f"{run.error_node}: {run.error}"[:1400])
        for dump in dumps:
            values = np.load(dump)
            if not np.isfinite(values).all():
                raise Fault("a node gave values that are not finite")


@st.composite
def cases(draw: st.DrawFn, posting: _Posting) -> Case:
    node = draw(st.sampled_from(sorted(posting.nodes)))
    tensor = draw(st.sampled_from(["picture"] * 15 + sorted(posting.tensors)))
    inputs: dict[str, Any] = {}
    for name, kind, told, needed in posting.inputs(node):
        if needed or draw(st.booleans()):
            value = _usual(draw, kind, told)
            if value is not None:
                inputs[name] = value
    changes = [_change(draw, inputs) for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2])))]
    graph = posting.base(tensor) | {"tried": graphs.node(node, **inputs)}
    number = next(posting.numbers)
    for slot, kind in enumerate(posting.nodes[node]["output"]):
        show = graphs.node("PreviewAny", source=["tried", slot])
        if kind == "IMAGE":
            show = graphs.node("TestDump", file=f"tried-{number}-{slot}.npy", image=["tried", slot])
        graph[f"show {slot}"] = show
    told = f"{node} with {str(inputs)[:400]}, {tensor}, {changes}"
    return Case(told, lambda folder: posting.run(graph, node))


def _usual(draw: st.DrawFn, kind: Any, told: dict[str, Any]) -> Any:
    """A value that the front end could have given; None where nothing gives such an input."""
    if isinstance(kind, list) or kind == "COMBO":
        choices = kind if isinstance(kind, list) else told.get("options", [])
        return draw(st.sampled_from(choices)) if choices else None
    if kind in ("INT", "FLOAT"):
        least, most = told.get("min", 0), told.get("max", 100)
        return told.get("default", least) if draw(st.booleans()) else draw(st.sampled_from([least, most]))
    if kind == "BOOLEAN":
        return draw(st.booleans())
    if kind == "STRING" and "default" in told:
        return told["default"]
    links = _LINKS.get(kind)
    return draw(st.sampled_from(links)) if links else None


def _change(draw: st.DrawFn, inputs: dict[str, Any]) -> str:
    """Change one of the inputs in place, and say how."""
    how = draw(st.sampled_from(["value", "value", "value", "link", "link", "other", "gone", "more"]))
    if not inputs or how == "more":
        inputs[draw(st.text(max_size=6) | st.just("image"))] = draw(st.sampled_from(_ODD_VALUES))
        return "more"
    name = draw(st.sampled_from(sorted(inputs)))
    if how == "gone":
        del inputs[name]
    elif how == "value":
        inputs[name] = draw(st.sampled_from(_ODD_VALUES))
    elif how == "link":
        inputs[name] = draw(st.sampled_from(_ODD_LINKS))
    else:
        inputs[name] = draw(st.sampled_from([link for links in _LINKS.values() for link in links]))
    return f"{name}: {how}"


def server_kind(server: ComfyServer) -> Kind:
    return Kind("server", cases(_Posting(server)), CASES, 0)
