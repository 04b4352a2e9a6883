"""Relighting and closure in a real ComfyUI: the same numbers as outside of it, and bad input refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delit_models.closure import closure
from delit_models.image_files import read_image
from delit_models.relight import RelightOptions, relight
from tests.comfy import graphs
from tests.comfy.comfyui import REPOSITORY, ComfyServer, Graph
from tests.comfy.test_bad_input import refused
from tests.comfy.test_light import lit_map

SETTINGS = {"convention": "OpenGL (+Y up)", "coding": "sRGB"}
SURFACE = {"specular": 0.5, "roughness": 0.5}


def example() -> tuple[torch.Tensor, torch.Tensor]:
    """The rendered example portrait and its normal map, [1, 512, 512, 3]."""
    folder = REPOSITORY / "portraits"
    return tuple(
        read_image(folder / name)[None, ..., :3] for name in ("rendered.jpg", "rendered_normals.png")
    )


def example_graph(server: ComfyServer, env: np.ndarray) -> Graph:
    return {
        "portrait": graphs.node("DelitExamplePortrait", name="rendered"),
        "env": graphs.node("TestTensor", file=server.put_array("relight env", env)),
    }


def dumped_all(graph: Graph, node: str, names: tuple[str, ...]) -> Graph:
    dumps = {
        f"dump {name}": graphs.node("TestDump", file=f"{name}.npy", image=[node, slot])
        for slot, name in enumerate(names)
    }
    return {**graph, **dumps}


@pytest.mark.parametrize("coding", ["sRGB", "ACEScg"])
def test_relight_equals_the_function(server: ComfyServer, coding: str) -> None:
    env = lit_map()
    graph = example_graph(server, env)
    mask = np.zeros((1, 64, 64), np.float32)
    mask[:, :, 20:] = 1
    graph["mask"] = graphs.node("TestTensor", file=server.put_array("relight mask", mask))
    graph["relight"] = graphs.node(
        "DelitRelight",
        flat=["portrait", 0],
        normals=["portrait", 1],
        env=["env", 0],
        mask=["mask", 1],
        **SURFACE,
        **{**SETTINGS, "coding": coding},
    )
    names = ("relit", "diffuse", "glossy")
    assert server.run(dumped_all(graph, "relight", names)).error is None
    flat, normals = example()
    expected = relight(
        flat, normals, torch.from_numpy(env), torch.from_numpy(mask), RelightOptions(coding=coding)
    )
    for name, reference in zip(names, (expected.picture, expected.diffuse, expected.glossy), strict=True):
        np.testing.assert_allclose(server.dumped(f"{name}.npy"), reference.numpy(), atol=1e-4)


def test_closure_equals_the_function_and_speaks(server: ComfyServer) -> None:
    """The source is the portrait in a known light: closure finds it, and not when the map is turned."""
    env = torch.from_numpy(lit_map())
    flat, normals = example()
    source = relight(flat * 0.5, normals, env, options=RelightOptions(specular=0)).picture
    said = {}
    for name, light in {"right": env, "turned": env.roll(32, 2)}.items():
        graph = example_graph(server, light.numpy())
        for part, tensor in {"source": source, "flat": flat * 0.5}.items():
            graph[part] = graphs.node("TestTensor", file=server.put_array(f"closure {part}", tensor.numpy()))
        graph["closure"] = graphs.node(
            "DelitClosure",
            source=["source", 0],
            flat=["flat", 0],
            normals=["portrait", 1],
            env=["env", 0],
            **SETTINGS,
        )
        for slot, output in {2: "explained", 3: "residual", 4: "text"}.items():
            graph[output] = graphs.node("PreviewAny", source=["closure", slot])
        run = server.run(dumped_all(graph, "closure", ("map", "relit")))
        assert run.error is None
        expected = closure(source, flat * 0.5, normals, light)
        np.testing.assert_allclose(server.dumped("map.npy"), expected.map.numpy(), atol=1e-3)
        np.testing.assert_allclose(server.dumped("relit.npy"), expected.relit.numpy(), atol=1e-4)
        said[name] = {key: run.outputs[key]["text"][0] for key in ("explained", "residual", "text")}
        assert float(said[name]["explained"]) == pytest.approx(expected.pictures[0].explained, abs=1e-3)
        assert float(said[name]["residual"]) == pytest.approx(expected.pictures[0].residual, abs=1e-3)
    print(said)
    assert float(said["right"]["explained"]) > 0.9 > 0.3 > float(said["turned"]["explained"])
    assert said["right"]["text"].startswith("The light explains the picture.")


def test_no_normals_are_refused_before_anything_runs(server: ComfyServer) -> None:
    graph = example_graph(server, lit_map())
    graph["relight"] = graphs.node(
        "DelitRelight", flat=["portrait", 0], env=["env", 0], **SURFACE, **SETTINGS
    )
    run = server.run(dumped_all(graph, "relight", ("relit",)))
    assert run.error is not None and "normals" in run.error and "required" in run.error.lower()


def test_what_is_no_normal_map_is_refused(server: ComfyServer) -> None:
    graph = example_graph(server, lit_map())
    backwards = 1 - example()[1].numpy()
    graph["normals"] = graphs.node("TestTensor", file=server.put_array("backwards", backwards))
    graph["relight"] = graphs.node(
        "DelitRelight",
        flat=["portrait", 0],
        normals=["normals", 0],
        env=["env", 0],
        **SURFACE,
        **SETTINGS,
    )
    graph["shown"] = graphs.node("PreviewImage", images=["relight", 0])
    refused(server, graph, "DelitRelight", "face the camera")


def test_a_photograph_has_no_normals_and_gives_none(server: ComfyServer) -> None:
    graph = example_graph(server, lit_map())
    graph["portrait"]["inputs"]["name"] = "photograph"
    graph["image"] = graphs.node("PreviewImage", images=["portrait", 0])
    graph["normals"] = graphs.node("PreviewImage", images=["portrait", 1])
    run = server.run(graph)
    # What stops a branch is told to the page alone; a run's history shows that the branch did not run.
    assert "image" in run.outputs and "normals" not in run.outputs
