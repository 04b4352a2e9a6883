"""The nodes that read, turn and use the light, in a real ComfyUI."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from delit_models.env_map_transform import EnvMapTransform, transform_env_map
from delit_models.lat_long import direction_grid
from tests.comfy import graphs
from tests.comfy.comfyui import ComfyServer
from tests.comfy.test_bad_input import refused


def lit_map(azimuth: float = 0.7, height: int = 64) -> np.ndarray:
    """One lamp at the camera's right, above it, in a weak ambient: [1, height, 2 height, 3]."""
    towards = torch.tensor([np.sin(azimuth), 0.5, np.cos(azimuth)], dtype=torch.float32)
    lobe = (direction_grid(height, 2 * height) @ (towards / towards.norm()) > 0.97).float()[..., None]
    return (0.2 + 60 * lobe * torch.tensor([1.0, 0.8, 0.6]))[None].numpy()


TURN = {
    "yaw": 30.0,
    "pitch": 10.0,
    "roll": 0.0,
    "flip": False,
    "exposure": 1.0,
    "temperature": 5000.0,
    "tint": 0.0,
    "height": 32,
}


def test_a_map_is_turned_and_its_lights_are_read(server: ComfyServer) -> None:
    env = lit_map()
    graph = {
        "env": graphs.node("TestTensor", file=server.put_array("light", env)),
        "turn": graphs.node(
            "DelitEnvMapTransform",
            env=["env", 0],
            source_orientation="delit",
            target_orientation="delit",
            **TURN,
        ),
        "dump": graphs.node("TestDump", file="turned.npy", image=["turn", 0]),
        "lights": graphs.node("DelitKeyLight", env=["env", 0], max_lights=4, min_share=0.1, index=0),
    }
    for slot, name in enumerate(("lights", "text", "blender", "usd", "nuke")):
        graph[name + "_shown"] = graphs.node("PreviewAny", source=["lights", slot])
    run = server.run(graph)
    assert run.error is None
    expected = transform_env_map(torch.from_numpy(env), EnvMapTransform(**TURN))
    np.testing.assert_allclose(server.dumped("turned.npy"), expected.numpy(), rtol=1e-5)
    said = json.loads(run.outputs["lights_shown"]["text"][0])
    assert said["lights"][0]["azimuth_degrees"] == pytest.approx(np.degrees(0.7), abs=1)
    assert "front right" in run.outputs["text_shown"]["text"][0]
    assert "bpy" in run.outputs["blender_shown"]["text"][0]
    assert run.outputs["usd_shown"]["text"][0].startswith("#usda")
    assert "DirectLight" in run.outputs["nuke_shown"]["text"][0]


def test_a_map_that_is_not_there(server: ComfyServer) -> None:
    graph = {
        "env": graphs.node("TestTensor", file=server.put_array("light", lit_map())),
        "lights": graphs.node("DelitKeyLight", env=["env", 0], max_lights=4, min_share=0.1, index=3),
        "shown": graphs.node("PreviewAny", source=["lights", 0]),
    }
    refused(server, graph, "DelitKeyLight", "no map 3")
