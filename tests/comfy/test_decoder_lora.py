"""Heads that bring a LoRA for the VAE's decoder: in ComfyUI the flat-lit picture is what training's decoder makes,
within 1e-4, and the VAE stays as it is for every other node of the graph."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from delit_models.checkpoint import load_wan_vae
from delit_models.decoder_lora import DecoderLora, weight_change
from delit_models.heads_file import load_heads, save_heads
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE, DelitOptions, DelitPipeline
from tests.comfy import graphs
from tests.comfy.comfyui import ComfyServer, Graph
from training.heads.lora import LoraDecoder

TOLERANCE = 1e-4
HEADS, VAE = "heads_with_lora.safetensors", "narrow_wan_for_lora.safetensors"


@pytest.fixture(scope="module")
def decoder() -> LoraDecoder:
    """Training's decoder, its LoRA at random: changes of about a tenth of each kernel."""
    vae = load_wan_vae(EMBEDDED_VAE)
    weights = {name: module.weight for name, module in vae.named_modules() if hasattr(module, "weight")}
    decoder = LoraDecoder(vae, rank=4, seed=0)
    factors, generator = decoder.state_dict(), torch.Generator().manual_seed(0)
    for name in DecoderLora.from_tensors(factors).factors:
        up, down = factors[f"{name}.lora_B.weight"], factors[f"{name}.lora_A.weight"]
        up.copy_(torch.randn(up.shape, generator=generator))
        up *= 0.1 * weights[name].norm() / weight_change(down, up).norm()
    return decoder


@pytest.fixture(scope="module")
def heads_file(decoder: LoraDecoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heads") / HEADS
    loaded = load_heads(EMBEDDED_HEADS)
    lora = DecoderLora.from_tensors(decoder.state_dict())
    save_heads(path, loaded.heads, loaded.vae_probe, loaded.info, torch.float16, lora)
    return path


def stages(server: ComfyServer, heads_file: Path, loader: str, seed: int) -> Graph:
    """The stages without detail transfer; beside them the same flat-lit latent through core's own decoding node, whose
    result is dumped as plain.npy."""
    shutil.copy(heads_file, server.models / "delit" / HEADS)
    shutil.copy(EMBEDDED_VAE, server.models / "vae" / VAE)
    graph = graphs.stages(server, graphs.picture(72, 64, seed=seed), graphs.node(loader, vae_name=VAE))
    graph["model"] = graphs.node("DelitLoadModel", model_name=HEADS)
    del graph["decode"]["inputs"]["source"]
    graph["core decode"] = graphs.node("VAEDecode", samples=["apply", 0], vae=["vae", 0])
    graph["plain"] = graphs.node("TestDump", file="plain.npy", image=["core decode", 0])
    graph["z_flat"] = graphs.node("TestDump", file="z_flat.npy", latent=["apply", 0])
    return graph


@torch.inference_mode()
def shown(decoder: object, z_flat: np.ndarray) -> np.ndarray:
    picture = decoder.decode(torch.from_numpy(z_flat)[:, :, 0]).clamp(-1, 1) / 2 + 0.5
    return picture.movedim(1, -1).numpy()


@pytest.mark.parametrize("loader", ["VAELoader", "DelitLoadWanVAE"])
def test_the_flat_picture_is_that_of_trainings_decoder_and_the_vae_stays(
    server: ComfyServer, decoder: LoraDecoder, heads_file: Path, loader: str
) -> None:
    vae = load_wan_vae(EMBEDDED_VAE)
    # The second run takes the changes off and puts them on again, on weights that are loaded already.
    for seed in (1, 2):
        assert server.run(stages(server, heads_file, loader, seed)).error is None
        flat, plain, z_flat = (server.dumped(f"{name}.npy") for name in ("flat", "plain", "z_flat"))
        errors = (
            np.abs(flat - shown(decoder, z_flat)).max(),
            np.abs(plain.reshape(flat.shape) - shown(vae, z_flat)).max(),
        )
        print(f"with the LoRA within {errors[0]:.1e}, without within {errors[1]:.1e}")
        assert max(errors) < TOLERANCE
        assert np.abs(flat - plain.reshape(flat.shape)).max() > 0.01


def test_heads_without_a_lora_decode_plainly_after_such_with_one(
    server: ComfyServer, decoder: LoraDecoder, heads_file: Path
) -> None:
    vae = load_wan_vae(EMBEDDED_VAE)
    graph = stages(server, heads_file, "VAELoader", seed=3)
    assert server.run(graph).error is None
    graph["model"] = graphs.node("DelitLoadModel", model_name="embedded")
    assert server.run(graph).error is None
    assert np.abs(server.dumped("flat.npy") - shown(vae, server.dumped("z_flat.npy"))).max() < TOLERANCE


def test_the_portrait_node_is_the_pipeline(server: ComfyServer, heads_file: Path) -> None:
    shutil.copy(heads_file, server.models / "delit" / HEADS)
    pipe = DelitPipeline.load(EMBEDDED_VAE, heads_file)
    images = graphs.picture(80, 64, batch=2, seed=4)
    for detail_transfer in (True, False):
        graph = graphs.portrait(server, images, delit_model=["model", 0], detail_transfer=detail_transfer)
        graph["model"] = graphs.node("DelitLoadModel", model_name=HEADS)
        assert server.run(graph).error is None
        options = DelitOptions(area="picture", detail_transfer=detail_transfer)
        expected = pipe(torch.from_numpy(images), options=options).flat.numpy()
        assert np.abs(server.dumped("flat.npy") - expected).max() < (1e-3 if detail_transfer else TOLERANCE)


def test_a_lora_of_another_vae_is_refused(server: ComfyServer, tmp_path: Path) -> None:
    """As where a VAE has the same encoder, and so the same probe, but another decoder."""
    loaded = load_heads(EMBEDDED_HEADS)
    lora = DecoderLora({"decoder.conv1": (torch.zeros(2, 16, 3, 3, 3), torch.zeros(999, 2, 1, 1, 1))})
    save_heads(
        server.models / "delit" / HEADS, loaded.heads, loaded.vae_probe, loaded.info, torch.float16, lora
    )
    graph = graphs.portrait(server, graphs.picture(seed=5), delit_model=["model", 0])
    graph["model"] = graphs.node("DelitLoadModel", model_name=HEADS)
    run = server.run(graph)
    assert (
        run.error_node == "DelitPortrait"
        and "changes decoder.conv1, of shape [999, 16, 3, 3, 3]" in run.error
    )
