"""ComfyUI's VAE as the VAE that Delit's stages expect. All that Delit knows of core's VAE class is here."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

import comfy.lora
import comfy.sd
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from einops import rearrange
from torch import Tensor

from ..delit_models.decoder_lora import DecoderLora, check_fits
from ..delit_models.errors import DelitError
from ..delit_models.heads_file import test_card
from ..delit_models.latent_notes import LATENT_CHANNELS
from ..delit_models.wan_vae import WanVAE
from .interrupting import in_core

_probes: WeakKeyDictionary[Any, Tensor] = WeakKeyDictionary()
_names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_patched: WeakKeyDictionary[Any, tuple[DecoderLora, Any]] = WeakKeyDictionary()


def core_vae(wan_vae: WanVAE, name: str) -> comfy.sd.VAE:
    """Our WanVAE's weights in core's class: an ordinary VAE for every node. `name` is for messages."""
    with in_core():
        vae = comfy.sd.VAE(sd=wan_vae.state_dict())
    vae.throw_exception_if_invalid()
    _names[vae] = name
    return vae


class ComfyVAE:
    """A `stages.LatentCodec` over comfy.sd.VAE, which loads, offloads and tiles as it sees fit.

    One picture, or one clip, at a time.
    """

    def __init__(self, vae: Any) -> None:
        if getattr(vae, "first_stage_model", None) is None:
            raise DelitError("The connected VAE is empty: its file held no VAE. Choose a Wan 2.1 VAE.")
        channels, dimensions = getattr(vae, "latent_channels", None), getattr(vae, "latent_dim", None)
        if (channels, dimensions) != (LATENT_CHANNELS, 3) or getattr(vae, "output_channels", 3) != 3:
            raise DelitError(
                f"The connected VAE has {channels} latent channels in {dimensions} dimensions; Delit needs "
                f"a Wan 2.1 VAE ({LATENT_CHANNELS} channels in 3, as for Wan 2.1 and Wan 2.2 A14B). Load "
                "wan_2.1_vae.safetensors, or the embedded VAE with “Load Wan VAE”."
            )
        self.vae = vae

    @property
    def name(self) -> str:
        """What to call this VAE in a message."""
        width = getattr(self.vae.first_stage_model, "dim", "unknown")
        return _names.get(self.vae, f"the connected VAE (width {width})")

    def encode(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, 16, h, w], or [B, 3, T, H, W] → [B, 16, t, h, w]; x in [-1, 1]."""
        # Core takes an IMAGE batch as time. Its crop to multiples of 8 would cut the time of a 5-D batch too,
        # to nothing for stills. So every picture goes in as a clip of its own.
        clips = (x[:, :, None] if x.ndim == 4 else x).add(1).div(2)
        z = torch.cat(
            [self._encode_clip(rearrange(clip, "c t h w -> t h w c")) for clip in _with_progress(clips)]
        )
        return z[:, :, 0] if x.ndim == 4 else z

    def decode(self, z: Tensor) -> Tensor:
        """The reverse of `encode`. Core clamps to [-1, 1]."""
        clips = z[:, :, None] if z.ndim == 4 else z
        x = torch.cat([self._decode_clip(clip) for clip in _with_progress(clips)])
        x = rearrange(x, "b t h w c -> b c t h w").float() * 2 - 1
        return x[:, :, 0] if z.ndim == 4 else x

    def probe(self) -> Tensor:
        """The latent of the test card, [1, 16, 8, 8]; computed once for each VAE."""
        if self.vae not in _probes:
            _probes[self.vae] = self.encode(test_card())
        return _probes[self.vae]

    def with_lora(self, lora: DecoderLora | None) -> ComfyVAE:
        """The VAE with the LoRA of heads on its decoder, for flat-lit latents; itself where they have none.

        The connected VAE stays as it is for all other nodes: both share their weights, and core's patcher puts the
        changes on when this one is used, and takes them off when the other is.

        Raises:
            DelitError: if the LoRA is of a VAE with other convolutions.
        """
        if lora is None:
            return self
        # Kept, so that a second run of the graph finds the weights as it left them.
        known = _patched.get(self.vae)
        if known is None or known[0] is not lora:
            known = _patched[self.vae] = lora, _patched_vae(self.vae, lora)
        return ComfyVAE(known[1])

    def _encode_clip(self, frames: Tensor) -> Tensor:
        with in_core(self.vae.first_stage_model):
            return self.vae.encode(frames).float()

    def _decode_clip(self, z: Tensor) -> Tensor:
        with in_core(self.vae.first_stage_model):
            return self.vae.decode(z[None])


def _patched_vae(vae: Any, lora: DecoderLora) -> Any:
    weights = vae.first_stage_model.state_dict()
    keys = {name: f"{name}.weight" for name in lora.factors}
    check_fits(lora, {name: weights[key] for name, key in keys.items() if key in weights})
    # A VAE has no clone() of its own; core's nodes do the same.
    patched = copy.copy(vae)
    patched.patcher = vae.patcher.clone()
    patched.patcher.add_patches(comfy.lora.load_lora(lora.tensors(), keys))
    return patched


def _with_progress(clips: Tensor):
    """The clips of a batch, one after the other; the node's bar moves where there are several."""
    bar = ProgressBar(len(clips)) if len(clips) > 1 else None
    for index, clip in enumerate(clips):
        throw_exception_if_processing_interrupted()
        yield clip
        if bar:
            bar.update_absolute(index + 1)
