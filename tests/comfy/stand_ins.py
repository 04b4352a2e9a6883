"""Small files in place of Wan's, so that the shipped workflows with Wan run in a real ComfyUI without gigabytes.

The diffusion models are Wan's architecture at its smallest, randomly initialised: their videos are noise. The VAE and
the heads are the embedded ones, which have Wan's layout. The text encoder is too large at any width that Wan takes
(4096), so its file only stands in a list of files: a graph that is to run gets its conditioning from
`without_text_encoder`.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE
from tests.comfy.comfyui import ComfyServer, Graph
from tests.comfy.graphs import node

WIDTH, FEED_FORWARD, TEXT_WIDTH, TIME_WIDTH, LATENT_CHANNELS, PATCH = 128, 256, 4096, 256, 16, 4
# Image-to-video models see the start frame's latent and a mask of 4 channels beside the noise.
IMAGE_TO_VIDEO_CHANNELS = 2 * LATENT_CHANNELS + 4
TEXT_ENCODER = "text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors"
TEXT_TO_VIDEO = "diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors"
IMAGE_TO_VIDEO = tuple(
    f"diffusion_models/wan2.2_i2v_{noise}_noise_14B_fp8_scaled.safetensors" for noise in ("high", "low")
)
VAE, HEADS = "vae/wan_2.1_vae.safetensors", "delit/delit_heads.safetensors"
# The shipped workflows that name these files, and which.
NAMED_BY = {
    "delit_wan_start_frame": {TEXT_ENCODER, *IMAGE_TO_VIDEO, VAE},
    "delit_wan_text_to_video": {TEXT_ENCODER, TEXT_TO_VIDEO, VAE, HEADS},
}
ALL = (TEXT_ENCODER, TEXT_TO_VIDEO, *IMAGE_TO_VIDEO, VAE, HEADS)


def put_stand_ins(models: Path) -> None:
    """Write all files that the workflows with Wan name into ComfyUI's models folder."""
    for name in ALL:
        (models / name).parent.mkdir(parents=True, exist_ok=True)
    save_file(wan_diffusion_model(LATENT_CHANNELS, seed=0), models / TEXT_TO_VIDEO)
    for seed, name in enumerate(IMAGE_TO_VIDEO):
        save_file(wan_diffusion_model(IMAGE_TO_VIDEO_CHANNELS, seed), models / name)
    save_file({"empty": torch.zeros(1)}, models / TEXT_ENCODER)
    shutil.copy(EMBEDDED_VAE, models / VAE)
    shutil.copy(EMBEDDED_HEADS, models / HEADS)


def remove_stand_ins(models: Path) -> None:
    for name in ALL:
        (models / name).unlink(missing_ok=True)


def wan_diffusion_model(channels: int, seed: int) -> dict[str, torch.Tensor]:
    """Tensors of a Wan diffusion transformer of one block and one head; ComfyUI tells it by their names and shapes."""
    linear = {
        "text_embedding.0": (WIDTH, TEXT_WIDTH),
        "text_embedding.2": (WIDTH, WIDTH),
        "time_embedding.0": (WIDTH, TIME_WIDTH),
        "time_embedding.2": (WIDTH, WIDTH),
        "time_projection.1": (6 * WIDTH, WIDTH),
        "blocks.0.ffn.0": (FEED_FORWARD, WIDTH),
        "blocks.0.ffn.2": (WIDTH, FEED_FORWARD),
        "head.head": (LATENT_CHANNELS * PATCH, WIDTH),
        "patch_embedding": (WIDTH, channels, 1, 2, 2),
    }
    for attention in ("self_attn", "cross_attn"):
        linear |= {f"blocks.0.{attention}.{part}": (WIDTH, WIDTH) for part in "qkvo"}
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in linear.items():
        fan_in = int(np.prod(shape[1:]))
        tensors[f"{name}.weight"] = torch.randn(shape, generator=random) / fan_in**0.5
        tensors[f"{name}.bias"] = torch.zeros(shape[0])
    for attention in ("self_attn", "cross_attn"):
        for norm in ("norm_q", "norm_k"):
            tensors[f"blocks.0.{attention}.{norm}.weight"] = torch.ones(WIDTH)
    tensors["blocks.0.norm3.weight"], tensors["blocks.0.norm3.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)
    tensors["blocks.0.modulation"] = torch.randn(1, 6, WIDTH, generator=random) / WIDTH**0.5
    tensors["head.modulation"] = torch.randn(1, 2, WIDTH, generator=random) / WIDTH**0.5
    return {name: tensor.half() for name, tensor in tensors.items()}


def without_text_encoder(server: ComfyServer, graph: Graph) -> Graph:
    """The graph with random conditioning of the text encoder's shape in place of each “CLIP Text Encode”."""
    graph = copy.deepcopy(graph)
    random = np.random.default_rng(0)
    for key, encode in list(graph.items()):
        if encode["class_type"] == "CLIPTextEncode":
            words = random.normal(size=(1, 8, TEXT_WIDTH)).astype(np.float32)
            graph[key] = node("TestTensor", file=server.put_array(f"words_{key}", words))
    for other in graph.values():
        for name, value in other["inputs"].items():
            if isinstance(value, list) and graph[value[0]]["class_type"] == "TestTensor":
                other["inputs"][name] = [value[0], 3]
    return {key: other for key, other in graph.items() if other["class_type"] != "CLIPLoader"}
