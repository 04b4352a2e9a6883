"""Saving environment maps in ComfyUI: what is written, and what happens where nothing can be."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest

from delit_models.image_files import read_env_map
from tests.comfy import graphs
from tests.comfy.comfyui import ComfyServer
from tests.comfy.test_bad_input import load_env, refused, works_on
from tests.unit.disk_limits import mounted

ENV = np.random.default_rng(0).uniform(0, 900, (2, 128, 256, 3)).astype(np.float32)


@pytest.mark.parametrize("bit_depth", ["half", "float"])
def test_an_exr_comes_back_exactly(server: ComfyServer, bit_depth: str) -> None:
    prefix = f"maps/{bit_depth}"
    graph = graphs.save_env(server, ENV, prefix, bit_depth=bit_depth, orientation="blender")
    graph["model"] = graphs.node("DelitLoadModel", model_name="embedded")
    graph["save"]["inputs"]["delit_model"] = ["model", 0]
    run = server.run(graph)
    assert run.error is None
    names = [f"{bit_depth}.000{number}.exr" for number in (1, 2)]
    assert sorted(path.name for path in (server.output / "maps").glob(f"{bit_depth}*")) == names
    expected = ENV.astype(np.float16).astype(np.float32) if bit_depth == "half" else ENV
    for name, radiance in zip(names, expected, strict=True):
        path = server.output / "maps" / name
        np.testing.assert_array_equal(read_env_map(path).radiance.numpy(), radiance)
        spec = oiio.ImageInput.open(str(path)).spec()
        attributes = {attribute.name: attribute.value for attribute in spec.extra_attribs}
        assert str(spec.format) == bit_depth
        assert "DelitPortrait" not in str(attributes) and "DelitSaveEnvMap" in attributes["prompt"]
        assert any(re.fullmatch("[0-9a-f]{64}", str(value)) for value in attributes.values())
    assert run.outputs["save"]["images"], "no preview is shown"


def test_a_saved_map_is_loaded_the_same(server: ComfyServer) -> None:
    assert (
        server.run(graphs.save_env(server, ENV[:1], "loop", bit_depth="float", orientation="unreal")).error
        is None
    )
    (server.output / "loop.0001.exr").rename(server.input / "loop.exr")
    assert server.run(load_env("loop.exr")).error is None
    np.testing.assert_array_equal(server.dumped("env.npy"), ENV[:1])


def test_saving_twice_overwrites_nothing(server: ComfyServer) -> None:
    for run in range(2):
        env = ENV[:1] + run
        assert server.run(graphs.save_env(server, env, "twice/env", format="hdr")).error is None
    assert sorted(path.name for path in (server.output / "twice").iterdir()) == [
        "env.0001.hdr",
        "env.0002.hdr",
    ]


@pytest.mark.parametrize(
    "prefix", ["../escaped", "maps/../../escaped", "/escaped", "maps/../../../../escaped"]
)
def test_a_prefix_that_leaves_the_output_folder(server: ComfyServer, prefix: str) -> None:
    refused(
        server, graphs.save_env(server, ENV[:1], prefix), "DelitSaveEnvMap", "leaves ComfyUI's output folder"
    )
    assert not list(server.base.glob("escaped*")) and not list(Path("/").glob("escaped*"))


def test_a_folder_that_is_a_file(server: ComfyServer) -> None:
    (server.output / "blocked").write_text("a file")
    refused(
        server, graphs.save_env(server, ENV[:1], "blocked/env"), "DelitSaveEnvMap", "Cannot save|Cannot write"
    )


def test_a_full_disk(server: ComfyServer) -> None:
    folder = server.output / "full"
    with mounted(folder, "size=64k"):
        graph = graphs.save_env(server, ENV[:1], "full/env", bit_depth="float")
        refused(server, graph, "DelitSaveEnvMap", "full", "Nothing was written")
        assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written(server: ComfyServer) -> None:
    folder = server.output / "locked"
    with mounted(folder, "ro"):
        graph = graphs.save_env(server, ENV[:1], "locked/env")
        refused(server, graph, "DelitSaveEnvMap", "Cannot write", "[Rr]ead-only")


def test_a_folder_whose_subfolder_cannot_be_made(server: ComfyServer) -> None:
    folder = server.output / "sealed"
    with mounted(folder, "ro"):
        graph = graphs.save_env(server, ENV[:1], "sealed/below/env")
        refused(server, graph, "DelitSaveEnvMap", "Cannot save|Cannot write", "[Rr]ead-only")
    works_on(server)
