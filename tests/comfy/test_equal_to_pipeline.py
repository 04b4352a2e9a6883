"""What comes out of ComfyUI equals what DelitPipeline gives outside of it, within 1e-3.

Environment maps reach far over 1, so there 1e-3 is relative: |a − b| ≤ 1e-3 · max(1, |b|).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from delit_models.image_files import read_image
from delit_models.images import Area
from delit_models.pipeline import EMBEDDED_VAE, DelitOptions, DelitPipeline, DelitResult
from tests.comfy import graphs
from tests.comfy.comfyui import REPOSITORY, ComfyServer, Graph
from tests.comfy.workflow_json import to_graph

TOLERANCE = 1e-3
# What a prompt gets that says nothing of the area, as those from before there was a choice.
WHOLE = DelitOptions(area="picture")


@cache
def embedded_pipeline() -> DelitPipeline:
    return DelitPipeline.embedded("cpu")


@cache
def example_result(name: str, working_size: int, detail_transfer: bool, area: Area) -> DelitResult:
    image = read_image(REPOSITORY / "portraits" / f"{name}.jpg")[None, ..., :3]
    return embedded_pipeline()(image, options=DelitOptions(working_size, detail_transfer, area))


def assert_equal(found: np.ndarray, expected: torch.Tensor) -> None:
    reference = expected.cpu().numpy()
    assert found.shape == reference.shape
    assert np.isfinite(found).all()
    error = np.abs(found - reference) / np.maximum(1, np.abs(reference))
    print(f"largest difference {error.max():.2e}")
    assert error.max() <= TOLERANCE


def with_dumps(graph: Graph) -> Graph:
    """The graph, with every IMAGE that Delit's last nodes give dumped as flat.npy and env.npy."""
    results = {"DelitPortrait": ("flat", "env"), "DelitDecode": ("flat",), "DelitDecodeEnv": ("env",)}
    dumps = {
        f"dump {name}": graphs.node("TestDump", file=f"{name}.npy", image=[node_id, slot])
        for node_id, one in graph.items()
        for slot, name in enumerate(results.get(one["class_type"], ()))
    }
    assert {"dump flat", "dump env"} <= set(dumps), "the workflow does not give both results"
    return {**graph, **dumps}


@pytest.mark.parametrize("name", ["delit_portrait", "delit_portrait_stages"])
def test_shipped_workflow(server: ComfyServer, name: str) -> None:
    workflow = json.loads((REPOSITORY / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    graph = to_graph(workflow, server.get("/object_info"))
    run = server.run(with_dumps(graph))
    assert run.error is None
    settings = {key: value for one in graph.values() for key, value in one["inputs"].items()}
    example = next(
        one["inputs"]["name"] for one in graph.values() if one["class_type"] == "DelitExamplePortrait"
    )
    area = settings.get("area", "picture")
    expected = example_result(example, settings["working_size"], settings["detail_transfer"], area)
    assert_equal(server.dumped("flat.npy"), expected.flat)
    assert_equal(server.dumped("env.npy"), expected.env)


@pytest.mark.parametrize("size", [(64, 64), (100, 203)])
def test_portrait_of_stills_of_any_size(server: ComfyServer, size: tuple[int, int]) -> None:
    images = graphs.picture(*size, batch=2, seed=1)
    assert server.run(graphs.portrait(server, images)).error is None
    expected = embedded_pipeline()(torch.from_numpy(images), options=WHOLE)
    assert_equal(server.dumped("flat.npy"), expected.flat)
    assert_equal(server.dumped("env.npy"), expected.env)
    preview = server.dumped("preview.npy")
    assert preview.shape == (2, 128, 256, 3) and 0 <= preview.min() and preview.max() <= 1


def test_the_matte_and_what_it_keeps(server: ComfyServer) -> None:
    image = read_image(REPOSITORY / "portraits" / "photograph.jpg")[None, ::2, ::2, :3].numpy()
    graph = graphs.portrait(server, image, area="subject")
    graph["as image"] = graphs.node("MaskToImage", mask=["portrait", 3])
    graph["dump matte"] = graphs.node("TestDump", file="matte.npy", image=["as image", 0])
    assert server.run(graph).error is None
    expected = embedded_pipeline()(torch.from_numpy(image))
    matte = server.dumped("matte.npy")[..., 0]
    assert_equal(matte, expected.matte)
    assert 0.2 < matte.mean() < 0.9
    assert_equal(server.dumped("flat.npy"), expected.flat)
    behind = matte == 0
    assert behind.any()
    np.testing.assert_allclose(server.dumped("flat.npy")[behind], image[behind], atol=1e-6)


def test_portrait_with_a_mask_of_another_size_and_transparency(server: ComfyServer) -> None:
    images = graphs.picture(96, 80, seed=2)
    mask = np.zeros((1, 48, 40), np.float32)
    mask[:, 10:30, 10:30] = 1
    run = server.run(graphs.portrait(server, images, mask, outside="transparent"))
    assert run.error is None
    options = DelitOptions(outside="transparent")
    expected = embedded_pipeline()(torch.from_numpy(images), torch.from_numpy(mask), options)
    assert expected.flat.shape[-1] == 4
    assert_equal(server.dumped("flat.npy"), expected.flat)


@pytest.mark.parametrize("frames", [5, 7])
def test_portrait_of_a_clip_of_any_length(server: ComfyServer, frames: int) -> None:
    clip = graphs.picture(64, 72, batch=frames, seed=3)
    assert server.run(graphs.portrait(server, clip, mode="clip")).error is None
    expected = embedded_pipeline()(torch.from_numpy(clip), options=replace(WHOLE, clip=True))
    assert expected.flat.shape[0] == frames
    assert_equal(server.dumped("flat.npy"), expected.flat)
    assert_equal(server.dumped("env.npy"), expected.env)


def test_stages_with_the_vae_of_cores_own_loader(server: ComfyServer) -> None:
    images = graphs.picture(104, 88, batch=2, seed=4)
    shutil.copy(EMBEDDED_VAE, server.models / "vae" / "narrow_wan.safetensors")
    expected = embedded_pipeline()(torch.from_numpy(images), options=WHOLE)
    core_loader = graphs.node("VAELoader", vae_name="narrow_wan.safetensors")
    own_loader = graphs.node("DelitLoadWanVAE", vae_name="narrow_wan.safetensors")
    results = []
    for loader in (core_loader, own_loader, None):
        assert server.run(graphs.stages(server, images, loader)).error is None
        results.append((server.dumped("flat.npy"), server.dumped("env.npy")))
        assert_equal(results[-1][0], expected.flat)
        assert_equal(results[-1][1], expected.env)
    for flat, env in results[1:]:
        np.testing.assert_array_equal(flat, results[0][0])
        np.testing.assert_array_equal(env, results[0][1])


def test_cores_own_encode_and_decode_fit_delit_apply(server: ComfyServer) -> None:
    """A latent from “VAE Encode” goes into Delit Apply, a flat latent into “VAE Decode”."""
    image = graphs.picture(64, 64, seed=5)
    graph = graphs.stages(server, image)
    graph["encode"] = graphs.node("VAEEncode", pixels=["image", 0], vae=["vae", 0])
    graph["decode"] = graphs.node("VAEDecode", samples=["apply", 0], vae=["vae", 0])
    assert server.run(graph).error is None
    options = replace(WHOLE, detail_transfer=False)
    expected = embedded_pipeline()(torch.from_numpy(image), options=options)
    assert_equal(server.dumped("flat.npy"), expected.flat)
    assert_equal(server.dumped("env.npy"), expected.env)
