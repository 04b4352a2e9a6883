"""ComfyUI's stop button takes effect within a second of work, in the middle of every node that can take long."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable

import pytest

from tests.comfy import clips, graphs
from tests.comfy.comfyui import ComfyServer, Graph
from tests.comfy.test_video import video_graph
from tests.faults.victims import processor_seconds

# The button is pressed when the prompt has taken so much processor time; what comes before the node takes less.
BEFORE = 1.0
# A second of work, and what the server takes to notice, to answer and to take down the prompt.
AFTER = 1.5


def grey(side: int, batch: int = 1, width: int | None = None) -> dict:
    """One colour, which read as a normal looks at the camera."""
    return graphs.node("EmptyImage", width=width or side, height=side, batch_size=batch, color=0x8080FF)


def portrait(server: ComfyServer, **settings: object) -> Graph:
    inputs = graphs.PORTRAIT_SETTINGS | {"area": "subject", "image": ["image", 0]} | settings
    return {"image": grey(3072), "long": graphs.node("DelitPortrait", **inputs)}


def stills(server: ComfyServer) -> Graph:
    return portrait(server) | {"image": grey(512, batch=40)}


def large_working_size(server: ComfyServer) -> Graph:
    # Larger ones spend seconds in one operation on a processor: the attention in the middle of the VAE.
    return portrait(server, working_size=1280)


def encoded(server: ComfyServer) -> Graph:
    inputs = {"working_size": 0, "mode": "stills", "coding": "sRGB", "exposure": 0.0}
    return {
        "vae": graphs.node("DelitLoadWanVAE", vae_name=graphs.EMBEDDED_VAE),
        "image": grey(512, batch=60),
        "long": graphs.node("DelitEncode", vae=["vae", 0], image=["image", 0], **inputs),
    }


def video(server: ComfyServer) -> Graph:
    clips.write_clip(server.input / "interrupted.mp4", clips.panned(200), sound=False)
    graph = video_graph("interrupted.mp4", "video/interrupted")
    graph["long"] = graph.pop("delit")
    graph["save"]["inputs"]["video"], graph["env"]["inputs"]["image"] = ["long", 0], ["long", 1]
    return graph


def relit(server: ComfyServer) -> Graph:
    inputs = {"specular": 0.5, "roughness": 0.5, "convention": "OpenGL (+Y up)", "coding": "sRGB"}
    return {
        "image": grey(4096),
        "env": grey(128, width=256),
        "long": graphs.node(
            "DelitRelight", flat=["image", 0], normals=["image", 0], env=["env", 0], **inputs
        ),
    }


def closure(server: ComfyServer) -> Graph:
    graph = relit(server)
    inputs = {"convention": "OpenGL (+Y up)", "coding": "sRGB", "normals": ["image", 0], "env": ["env", 0]}
    graph["long"] = graphs.node("DelitClosure", source=["image", 0], flat=["image", 0], **inputs)
    return graph


def turned_maps(server: ComfyServer) -> Graph:
    settings = {"yaw": 10.0, "pitch": 20.0, "roll": 30.0, "flip": True, "exposure": 1.0, "tint": 0.1}
    settings |= {
        "temperature": 5000.0,
        "height": 0,
        "source_orientation": "delit",
        "target_orientation": "delit",
    }
    return {
        "env": grey(1024, batch=3, width=2048),
        "long": graphs.node("DelitEnvMapTransform", env=["env", 0], **settings),
    }


def shown_maps(server: ComfyServer) -> Graph:
    return {
        "env": grey(2048, batch=3, width=4096),
        "long": graphs.node("DelitPreviewEnvMap", env=["env", 0]),
    }


def saved_maps(server: ComfyServer) -> Graph:
    inputs = {"format": "exr", "bit_depth": "float", "orientation": "blender"}
    return {
        "env": grey(1024, batch=12, width=2048),
        "long": graphs.node("DelitSaveEnvMap", filename_prefix="interrupted/map", env=["env", 0], **inputs),
    }


def saved_plates(server: ComfyServer) -> Graph:
    inputs = {"filename_prefix": "interrupted/plate", "format": "exr half", "coding": "sRGB"}
    return {
        "image": grey(1536, batch=12),
        "long": graphs.node("DelitSavePlate", images=["image", 0], **inputs),
    }


@pytest.mark.parametrize(
    "build",
    [
        portrait,
        stills,
        large_working_size,
        encoded,
        video,
        relit,
        closure,
        turned_maps,
        shown_maps,
        saved_maps,
        saved_plates,
    ],
    ids=lambda build: build.__name__,
)
def test_the_stop_button(server: ComfyServer, build: Callable[[ComfyServer], Graph]) -> None:
    graph = build(server)
    node = graph["long"]["class_type"]
    if not server.get(f"/object_info/{node}")[node]["output_node"] and "save" not in graph:
        graph["shown"] = graphs.node("PreviewAny", source=["long", 0])
    start = processor_seconds(server.process.pid)
    prompt_id = post(server, graph)
    deadline = time.monotonic() + 120
    while processor_seconds(server.process.pid) < start + BEFORE:
        assert time.monotonic() < deadline, "it never began to work"
        assert prompt_id not in server.get(f"/history/{prompt_id}"), "it was done before it could be stopped"
        time.sleep(0.02)
    pressed = processor_seconds(server.process.pid)
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/interrupt", b"", method="POST")).close()
    run = server.wait_for(prompt_id, seconds=120)
    worked_on = processor_seconds(server.process.pid) - pressed
    messages = dict(server.get(f"/history/{prompt_id}")[prompt_id]["status"]["messages"])
    print(f"{build.__name__}: {worked_on:.2f} s of work after the button")
    assert run.error is None
    assert messages["execution_interrupted"]["node_id"] == "long", "another node was stopped"
    assert worked_on < AFTER
    assert server.alive()


def post(server: ComfyServer, graph: Graph) -> str:
    """Queue a graph; returns its prompt's id."""
    body = json.dumps({"prompt": graph, "client_id": "delit-tests"}).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/prompt", body, headers)) as answer:
        return json.load(answer)["prompt_id"]
