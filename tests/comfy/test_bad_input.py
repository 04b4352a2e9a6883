"""Every bad input is refused by the node that got it, with a message that says what to do; the server works on.

After each, the same server delights a good picture, and nothing has appeared in the output folder.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest

from tests.comfy import bad_files, graphs
from tests.comfy.comfyui import ComfyServer, Graph, Run

_seeds = itertools.count(100)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def refused(server: ComfyServer, graph: Graph, node: str, *patterns: str) -> None:
    """The graph fails in `node`, saying all `patterns`; nothing is written, and the next graph runs."""
    dumps = {f"{name}.npy" for name in ("flat", "env", "preview")}
    before = files_below(server.output) | dumps
    run = server.run(graph)
    assert run.error is not None, "nothing was refused"
    print(f"{run.error_node}: {run.error}")
    assert run.error_node == node
    for pattern in patterns:
        assert re.search(pattern, run.error), f"“{pattern}” is not said in: {run.error}"
    assert files_below(server.output) | dumps == before
    works_on(server)


def works_on(server: ComfyServer) -> None:
    assert server.alive()
    good = graphs.portrait(server, graphs.picture(seed=next(_seeds)))
    assert server.run(good).error is None


def handled(server: ComfyServer, graph: Graph) -> Run:
    run = server.run(graph)
    assert run.error is None
    return run


@pytest.mark.parametrize(
    ("make", "patterns"),
    [
        (bad_files.truncated_vae, ("cut short|truncated|incomplete", "again")),
        (bad_files.text_file, ("not a|text|no weights|HTML", "")),
        (bad_files.stable_diffusion_vae, ("Stable Diffusion", r"wan_2\.1_vae\.safetensors")),
        (bad_files.wan_5b_vae, ("Wan 2.2-5B", r"wan_2\.1_vae\.safetensors")),
        (bad_files.diffusion_model, ("diffusion model", r"wan_2\.1_vae\.safetensors")),
        (bad_files.heads_of_another_vae, ("heads file", "Wan 2.1 VAE")),
    ],
)
def test_wrong_vae_files(
    server: ComfyServer, make: Callable[[Path], None], patterns: tuple[str, ...]
) -> None:
    name = f"{make.__name__}.safetensors"
    make(server.models / "vae" / name)
    loader = graphs.node("DelitLoadWanVAE", vae_name=name)
    refused(server, graphs.stages(server, graphs.picture(), loader), "DelitLoadWanVAE", name, *patterns)


@pytest.mark.parametrize(
    ("make", "patterns"),
    [
        (bad_files.truncated_heads, ("cut short|not a readable",)),
        (bad_files.text_file, ("not a readable|no weights",)),
        (bad_files.heads_of_a_newer_format, ("format 99", "update the pack")),
        (bad_files.stable_diffusion_vae, ("looks like a VAE", "VAE loader")),
        (bad_files.diffusion_model, ("diffusion model",)),
    ],
)
def test_wrong_heads_files(
    server: ComfyServer, make: Callable[[Path], None], patterns: tuple[str, ...]
) -> None:
    name = f"{make.__name__}.safetensors"
    make(server.models / "delit" / name)
    graph = graphs.stages(server, graphs.picture())
    graph["model"] = graphs.node("DelitLoadModel", model_name=name)
    refused(server, graph, "DelitLoadModel", name, *patterns)


def test_heads_of_another_vae(server: ComfyServer) -> None:
    bad_files.heads_of_another_vae(server.models / "delit" / "stranger.safetensors")
    graph = graphs.stages(server, graphs.picture())
    graph["model"] = graphs.node("DelitLoadModel", model_name="stranger.safetensors")
    refused(server, graph, "DelitApply", "stranger", "vae of elsewhere", "do not fit")
    one_node = graphs.portrait(server, graphs.picture(), delit_model=["model", 0])
    one_node["model"] = graph["model"]
    refused(server, one_node, "DelitPortrait", "vae of elsewhere", "embedded")


@pytest.mark.parametrize("class_type", ["DelitLoadWanVAE", "DelitLoadModel"])
def test_a_weights_file_that_is_gone(server: ComfyServer, class_type: str) -> None:
    folder, field = {"DelitLoadWanVAE": ("vae", "vae_name"), "DelitLoadModel": ("delit", "model_name")}[
        class_type
    ]
    graph = graphs.stages(server, graphs.picture())
    part = "vae" if folder == "vae" else "model"
    # Listed, so that the graph can be queued, but with nothing behind it.
    (server.models / folder / "gone.safetensors").symlink_to(server.base / "nowhere.safetensors")
    graph[part] = graphs.node(class_type, **{field: "gone.safetensors"})
    refused(server, graph, class_type, r"gone\.safetensors", f"models/{folder}")
    graph[part] = graphs.node(class_type, **{field: "never_there.safetensors"})
    run = server.run(graph)
    assert run.error is not None and "never_there.safetensors" in run.error
    works_on(server)


def with_value(value: float) -> np.ndarray:
    image = graphs.picture()
    image[0, 5, 7, 1] = value
    return image


@pytest.mark.parametrize(
    ("image", "patterns"),
    [
        pytest.param(graphs.picture(48, 100), ("100×48", "at least 64"), id="small"),
        pytest.param(with_value(np.nan), ("NaN", "row 5, column 7"), id="NaN"),
        pytest.param(with_value(-np.inf), ("infinite", "row 5, column 7"), id="infinite"),
        pytest.param(with_value(7.5), (r"7\.5", r"\[0, 1\]"), id="over 1"),
        pytest.param(with_value(-0.5), (r"-0\.5", r"\[0, 1\]"), id="under 0"),
        pytest.param(np.zeros((0, 64, 64, 3), np.float32), ("batch is empty",), id="empty batch"),
        pytest.param(graphs.picture(channels=2), ("channels",), id="two channels"),
    ],
)
def test_unusable_images(server: ComfyServer, image: np.ndarray, patterns: tuple[str, ...]) -> None:
    refused(server, graphs.portrait(server, image), "DelitPortrait", *patterns)
    refused(server, graphs.stages(server, image), "DelitEncode", *patterns)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha_are_handled(server: ComfyServer, channels: int) -> None:
    image = graphs.picture(channels=channels, seed=8)
    rgb = np.repeat(image, 3, axis=-1) if channels == 1 else image[..., :3]
    handled(server, graphs.portrait(server, image))
    found = server.dumped("flat.npy")
    handled(server, graphs.portrait(server, np.ascontiguousarray(rgb)))
    np.testing.assert_array_equal(found, server.dumped("flat.npy"))
    handled(server, graphs.stages(server, image))


def test_a_mask_of_another_batch(server: ComfyServer) -> None:
    mask = np.ones((3, 64, 64), np.float32)
    graph = graphs.portrait(server, graphs.picture(batch=2), mask)
    refused(server, graph, "DelitPortrait", "2 images", "3 masks")


def test_a_mask_that_is_empty_as_load_image_gives_it(server: ComfyServer) -> None:
    graph = graphs.portrait(server, graphs.picture(), np.zeros((1, 64, 64), np.float32))
    refused(server, graph, "DelitPortrait", "mask is empty", "Load Image")


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 6])
def test_a_clip_of_any_length_comes_back_whole(server: ComfyServer, frames: int) -> None:
    handled(server, graphs.portrait(server, graphs.picture(batch=frames), mode="clip"))
    assert server.dumped("flat.npy").shape == (frames, 64, 64, 3)
    assert server.dumped("env.npy").shape == (1, 128, 256, 3)


def test_a_latent_of_stable_diffusion(server: ComfyServer) -> None:
    graph = graphs.stages(server, graphs.picture())
    graph["encode"] = graphs.node("EmptyLatentImage", width=64, height=64, batch_size=1)
    refused(server, graph, "DelitApply", r"\(1, 4, 8, 8\)", "SD", "Delit Encode")


def test_a_vae_of_another_kind_from_cores_loader(server: ComfyServer) -> None:
    loader = graphs.node("VAELoader", vae_name="pixel_space")
    graph = graphs.stages(server, graphs.picture(), loader)
    refused(server, graph, "DelitEncode", "Wan 2.1 VAE")


@pytest.mark.parametrize(
    ("class_type", "given", "expected"),
    [
        ("DelitPreviewEnvMap", {"env": 0.5}, "“env” takes images .* “float” was given"),
        ("DelitEncode", {"vae": True}, "“vae” takes a VAE, but .* “bool” was given"),
        ("DelitDecode", {"flat_latent": True}, "“flat_latent” takes a latent"),
        ("DelitApply", {"delit_model": "embedded"}, "“delit_model” takes heads"),
        ("DelitDecodeEnv", {"env_code": None}, "“env_code” takes a code of light.* but nothing was given"),
    ],
)
def test_a_value_in_the_place_of_a_link(
    server: ComfyServer, class_type: str, given: dict[str, object], expected: str
) -> None:
    """No front end posts that, and ComfyUI lets it through."""
    graph = graphs.stages(server, graphs.picture())
    graph["preview"] = graphs.node("DelitPreviewEnvMap", env=["light", 0])
    tried = next(name for name, node in graph.items() if node["class_type"] == class_type)
    graph[tried]["inputs"] |= given
    refused(server, graph, class_type, expected)


def test_images_of_another_form(server: ComfyServer) -> None:
    for form in (graphs.picture()[None], graphs.picture()[0, 0], (graphs.picture() * 255).astype(np.uint8)):
        refused(server, graphs.portrait(server, form), "DelitPortrait", "takes images .* but a tensor")


def test_a_mask_of_another_form(server: ComfyServer) -> None:
    mask = np.ones((1, 64, 64, 3), np.float32)
    refused(server, graphs.portrait(server, graphs.picture(), mask), "DelitPortrait", "“mask” takes a mask")


def test_a_source_of_other_proportions(server: ComfyServer) -> None:
    graph = graphs.stages(server, graphs.picture(64, 128))
    graph["other"] = graphs.node("TestTensor", file=server.put_array("other", graphs.picture(128, 64)))
    graph["decode"]["inputs"]["source"] = ["other", 0]
    refused(server, graph, "DelitDecode", "64×128", "128×64")


def load_env(name: str) -> Graph:
    return {
        "load": graphs.node("DelitLoadEnvMap", file=name, orientation="as stored in the file"),
        "dump": graphs.node("TestDump", file="env.npy", image=["load", 0]),
    }


def write_exr(path: Path, pixels: np.ndarray) -> None:
    height, width, channels = pixels.shape
    buffer = oiio.ImageBuf(oiio.ImageSpec(width, height, channels, oiio.FLOAT))
    buffer.set_pixels(oiio.ROI(), pixels)
    assert buffer.write(str(path)), buffer.geterror()


def test_env_files_that_are_no_lat_long(server: ComfyServer) -> None:
    write_exr(server.input / "square.exr", np.ones((64, 64, 3), np.float32))
    refused(server, load_env("square.exr"), "DelitLoadEnvMap", "64 x 64", "twice as wide")
    (server.input / "text.exr").write_text("not an image")
    refused(server, load_env("text.exr"), "DelitLoadEnvMap", "cannot be read")
    broken = np.ones((32, 64, 3), np.float32)
    broken[3, 4, 0] = np.nan
    write_exr(server.input / "nan.exr", broken)
    refused(server, load_env("nan.exr"), "DelitLoadEnvMap", "NaN", "row 3")


@pytest.mark.parametrize("name", ["missing.exr", "../outside.exr", "/outside.exr"])
def test_env_files_that_are_missing_or_outside(server: ComfyServer, name: str) -> None:
    write_exr(server.base / "outside.exr", np.ones((32, 64, 3), np.float32))
    run = server.run(load_env(name))
    assert run.error is not None and re.search("There is no|outside", run.error)
    works_on(server)


def test_maps_that_cannot_be_saved(server: ComfyServer) -> None:
    square = np.ones((1, 64, 64, 3), np.float32)
    refused(server, graphs.save_env(server, square, "bad/square"), "DelitSaveEnvMap", "64 x 64", "2:1|twice")
    broken = np.ones((1, 32, 64, 3), np.float32)
    broken[0, 3, 4, 1] = np.nan
    refused(server, graphs.save_env(server, broken, "bad/nan"), "DelitSaveEnvMap", "NaN", "row 3")
