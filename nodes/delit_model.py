"""The heads under ComfyUI's model management, as they travel on a DELIT_MODEL wire."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import comfy.model_patcher
import comfy.ops
import torch
from comfy import model_management
from einops import rearrange
from torch import Tensor

from ..delit_models.checkpoint import load_wan_vae
from ..delit_models.decoder_lora import DecoderLora
from ..delit_models.heads import DelitConfig, HeadsOutput, clip_output
from ..delit_models.heads_file import LoadedHeads, load_heads, verify_vae_probe
from ..delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE, DelitPipeline
from .comfy_vae import ComfyVAE, core_vae
from .interrupting import in_core
from .schema import EMBEDDED_VAE_NAME

# Newer ComfyUI has a patcher that pages weights in and out, and points this name at it where it can be used.
Patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
# Latent frames that go through the heads at once: enough to fill a device, few enough for any clip to fit.
FRAMES_AT_ONCE = 8
# What a forward pass holds at once, measured and rounded up: for each latent pixel, and for the env branch.
LATENT_PIXEL_BYTES = 4 * 1000
ENV_BYTES = 64 * 1024 * 1024


class DelitModel:
    """Heads, what their file says of them, and one verb, `apply`.

    They are 5 million parameters and run in float32 everywhere: that costs little beside the VAE, and in
    bfloat16 the environment's brightness would be off by several per cent.
    """

    def __init__(self, path: Path) -> None:
        offload_device = model_management.unet_offload_device()
        self.loaded: LoadedHeads = load_heads(path, offload_device, torch.float32, comfy.ops.manual_cast)
        self.patcher = Patcher(
            self.loaded.heads, load_device=model_management.get_torch_device(), offload_device=offload_device
        )

    @property
    def config(self) -> DelitConfig:
        return self.loaded.config

    @property
    def sha256(self) -> str:
        return self.loaded.sha256

    @property
    def lora(self) -> DecoderLora | None:
        """What the VAE's decoder is changed by for flat-lit latents (ComfyVAE.with_lora)."""
        return self.loaded.lora

    def verify_vae(self, probe: Tensor, vae_name: str) -> None:
        """Refuse latents of another VAE than the heads' own, by its latent of the test card (heads_file)."""
        verify_vae_probe(lambda _: probe, self.loaded, vae_name)

    def apply(self, z: Tensor) -> HeadsOutput:
        """DelitHeads.forward on ComfyUI's device; the result lies on the intermediate device."""
        if z.ndim == 5:
            return clip_output(self.apply(rearrange(z, "b c t h w -> (b t) c h w")), z.shape[2])
        with in_core():
            model_management.load_models_gpu([self.patcher], memory_required=memory_required(z.shape))
        chunks = [self._forward(chunk) for chunk in z.split(FRAMES_AT_ONCE)]
        return HeadsOutput(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))

    def _forward(self, z: Tensor) -> HeadsOutput:
        with in_core(self.loaded.heads):
            outputs = self.loaded.heads(z.to(self.patcher.load_device, torch.float32))
        return HeadsOutput(*(x.to(model_management.intermediate_device()) for x in outputs))


def memory_required(shape: torch.Size) -> int:
    """Bytes that a forward pass over latents [N, 16, h, w] takes besides the weights: an upper bound."""
    frames, _, height, width = shape
    return min(frames, FRAMES_AT_ONCE) * (ENV_BYTES + LATENT_PIXEL_BYTES * height * width)


def embedded_model() -> DelitModel:
    """The heads that the pack ships; loaded once."""
    return _embedded_model(EMBEDDED_HEADS.stat().st_mtime_ns if EMBEDDED_HEADS.exists() else 0)


def embedded_vae() -> object:
    """The VAE that the pack ships, in core's class; loaded once."""
    return _embedded_vae(EMBEDDED_VAE.stat().st_mtime_ns if EMBEDDED_VAE.exists() else 0)


# Keyed by time of change, so that newly trained weights are picked up without a restart.
@lru_cache(maxsize=1)
def _embedded_model(_changed: int) -> DelitModel:
    return DelitModel(EMBEDDED_HEADS)


@lru_cache(maxsize=1)
def _embedded_vae(_changed: int) -> object:
    return core_vae(load_wan_vae(EMBEDDED_VAE), EMBEDDED_VAE_NAME)


def checked_codec(vae: object, model: DelitModel) -> ComfyVAE:
    """The VAE as the stages take it, once it is known to be the heads' own."""
    codec = ComfyVAE(vae)
    model.verify_vae(codec.probe(), codec.name)
    return codec


def pipeline_of(vae: object | None, model: DelitModel | None) -> DelitPipeline:
    """The pipeline of what is connected to a node, or of the pack's own weights."""
    model = model or embedded_model()
    codec = checked_codec(vae or embedded_vae(), model)
    return DelitPipeline(codec, model.apply, model.config, codec.with_lora(model.lora))
