"""No name in a graph, and no link, leads out of ComfyUI's folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from delit_models.image_files import write_image
from tests.comfy import graphs
from tests.comfy.comfyui import ComfyServer, Graph
from tests.comfy.test_bad_input import files_below, load_env, works_on, write_exr

ENV = np.random.default_rng(0).uniform(0, 900, (1, 32, 64, 3)).astype(np.float32)


@pytest.fixture
def elsewhere(server: ComfyServer) -> Path:
    """A folder beside ComfyUI's own, with a map and frames that nobody is to see."""
    folder = server.base / "elsewhere"
    folder.mkdir(exist_ok=True)
    write_exr(folder / "secret.exr", ENV[0])
    write_image(folder / "shot.0002.png", torch.rand(64, 64, 3))
    return folder


def link(at: Path, to: Path) -> None:
    at.parent.mkdir(exist_ok=True)
    if not at.is_symlink():
        at.symlink_to(to, target_is_directory=to.is_dir())


def load_plate(name: str) -> Graph:
    plate = graphs.node("DelitLoadPlate", file=name, first_frame=0, frames=0)
    return {"plate": plate, "dump": graphs.node("TestDump", file="plate.npy", image=["plate", 0])}


def save_plate(server: ComfyServer, prefix: str) -> Graph:
    plate = graphs.node(
        "DelitSavePlate",
        images=["env", 0],
        filename_prefix=prefix,
        format="exr half",
        coding="linear Rec.709",
    )
    return {"env": graphs.node("TestTensor", file=server.put_array("env", ENV)), "save": plate}


def test_nothing_is_read_through_a_link_that_leads_out(server: ComfyServer, elsewhere: Path) -> None:
    link(server.input / "linked.exr", elsewhere / "secret.exr")
    link(server.input / "linked", elsewhere)
    link(server.input / "shots" / "shot.0002.png", elsewhere / "shot.0002.png")
    write_image(server.input / "shots" / "shot.0001.png", torch.rand(64, 64, 3))
    absolute = str(elsewhere / "secret.exr")
    for graph in (
        *(
            load_env(name)
            for name in ("linked.exr", "linked/secret.exr", absolute, "../elsewhere/secret.exr")
        ),
        *(
            load_plate(name)
            for name in ("linked.exr", "linked/shot.####.png", "shots/shot.####.png", absolute)
        ),
    ):
        run = server.run(graph)
        assert run.error is not None and "outside ComfyUI's input folder" in run.error, graph
    works_on(server)


def test_a_link_that_stays_inside_is_followed(server: ComfyServer) -> None:
    """Within one folder: newer ComfyUI refuses those between its folders as well."""
    (server.input / "skies").mkdir(exist_ok=True)
    write_exr(server.input / "skies" / "noon.exr", ENV[0])
    link(server.input / "today.exr", server.input / "skies" / "noon.exr")
    assert server.run(load_env("today.exr")).error is None
    np.testing.assert_allclose(server.dumped("env.npy"), ENV, rtol=1e-3)


@pytest.mark.parametrize("prefix", ["way/env", "way/below/env", "../elsewhere/env", "{elsewhere}/env"])
def test_nothing_is_written_through_a_link_that_leads_out(
    server: ComfyServer, elsewhere: Path, prefix: str
) -> None:
    link(server.output / "way", elsewhere)
    before = files_below(elsewhere)
    prefix = prefix.format(elsewhere=elsewhere)
    for graph in (graphs.save_env(server, ENV, prefix), save_plate(server, prefix)):
        run = server.run(graph)
        assert run.error is not None and "leaves ComfyUI's output folder" in run.error
        assert run.error_node in ("DelitSaveEnvMap", "DelitSavePlate")
    assert files_below(elsewhere) == before and not (elsewhere / "below").exists()
    works_on(server)


def test_an_output_folder_that_is_a_link_itself(server: ComfyServer) -> None:
    """As those have it who keep their output on another disk."""
    moved = server.base / "another_disk"
    if not server.output.is_symlink():
        os.rename(server.output, moved)
        server.output.symlink_to(moved, target_is_directory=True)
    try:
        assert server.run(graphs.save_env(server, ENV, "moved/env")).error is None
        assert (moved / "moved" / "env.0001.exr").is_file()
    finally:
        server.output.unlink()
        os.rename(moved, server.output)


@pytest.mark.parametrize("name", ["../../elsewhere/secret.safetensors", "/etc/passwd"])
def test_weights_are_those_of_the_lists(server: ComfyServer, name: str) -> None:
    for class_type, field in (("DelitLoadWanVAE", "vae_name"), ("DelitLoadModel", "model_name")):
        graph = graphs.stages(server, graphs.picture())
        graph["vae" if field == "vae_name" else "model"] = graphs.node(class_type, **{field: name})
        run = server.run(graph)
        assert run.error is not None and "not in" in run.error.lower()


def test_a_value_out_of_bounds_is_refused(server: ComfyServer) -> None:
    run = server.run(graphs.portrait(server, graphs.picture(), working_size=10**9))
    assert run.error is not None and "bigger than max" in run.error
