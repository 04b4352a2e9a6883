"""Small graphs for the tests, in the API's format."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.comfy.comfyui import ComfyServer, Graph

EMBEDDED_VAE = "embedded (narrow, CPU-friendly)"
PORTRAIT_SETTINGS = {
    "working_size": 0,
    "mode": "stills",
    "detail_transfer": True,
    "outside": "source",
}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def picture(
    height: int = 64, width: int = 64, batch: int = 1, channels: int = 3, seed: int = 0
) -> np.ndarray:
    """Smooth random pictures [batch, height, width, channels] in [0, 1]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 20.0
    waves = [
        np.sin(x * random.uniform(0.3, 2) + y * random.uniform(0.3, 2) + random.uniform(0, 6))
        for _ in range(batch * channels)
    ]
    pictures = np.stack(waves).reshape(batch, channels, height, width).transpose(0, 2, 3, 1)
    return (0.5 + 0.45 * pictures).astype(np.float32)


def portrait(
    server: ComfyServer, image: np.ndarray, mask: np.ndarray | None = None, **settings: Any
) -> Graph:
    """Pictures through DelitPortrait, its results dumped as flat.npy, env.npy and preview.npy."""
    inputs = {**PORTRAIT_SETTINGS, "image": ["image", 0], **settings}
    graph = {"image": node("TestTensor", file=server.put_array("image", image))}
    if mask is not None:
        graph["mask"] = node("TestTensor", file=server.put_array("mask", mask))
        inputs["mask"] = ["mask", 1]
    graph["portrait"] = node("DelitPortrait", **inputs)
    for slot, name in enumerate(("flat", "env", "preview")):
        graph[name] = node("TestDump", file=f"{name}.npy", image=["portrait", slot])
    return graph


def stages(server: ComfyServer, image: np.ndarray, loader: dict[str, Any] | None = None) -> Graph:
    """Pictures through every stage; `loader` is the node that gives the VAE (Delit's own, embedded)."""
    return {
        "vae": loader or node("DelitLoadWanVAE", vae_name=EMBEDDED_VAE),
        "model": node("DelitLoadModel", model_name="embedded"),
        "image": node("TestTensor", file=server.put_array("image", image)),
        "encode": node(
            "DelitEncode",
            vae=["vae", 0],
            image=["image", 0],
            delit_model=["model", 0],
            working_size=0,
            mode="stills",
        ),
        "apply": node("DelitApply", delit_model=["model", 0], latent=["encode", 0]),
        "decode": node(
            "DelitDecode",
            vae=["vae", 0],
            flat_latent=["apply", 0],
            source=["image", 0],
            detail_transfer=True,
            outside="source",
        ),
        "light": node("DelitDecodeEnv", env_code=["apply", 1], env_pooling="shot", exposure=0.0),
        "flat": node("TestDump", file="flat.npy", image=["decode", 0]),
        "env": node("TestDump", file="env.npy", image=["light", 0]),
    }


def save_env(server: ComfyServer, env: np.ndarray, prefix: str, **settings: Any) -> Graph:
    inputs = {"format": "exr", "bit_depth": "half", "orientation": "delit", **settings}
    return {
        "env": node("TestTensor", file=server.put_array("env", env)),
        "save": node("DelitSaveEnvMap", env=["env", 0], filename_prefix=prefix, **inputs),
    }
