"""What a ComfyUI LATENT carries between Delit's nodes, besides its samples.

A LATENT is a dictionary; `samples` holds z as core has it for Wan, [B, 16, t, h, w], so that core's own nodes
work on it. Under the key `delit` travel the notes below: they make a picture of any size come back at that
size, and let detail be transferred without encoding the source a second time. A LATENT from core's
“VAE Encode” has none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from einops import rearrange
from torch import Tensor

from .coding import SRGB, Coding
from .decoder_lora import DecoderLora
from .errors import DelitError
from .images import VAE_STRIDE, Framing
from .stages import FRAMES_PER_LATENT
from .wan_vae import LATENT_MEAN

logger = logging.getLogger(__name__)

NOTES_KEY = "delit"
LATENT_CHANNELS = len(LATENT_MEAN)
# Sizes are rounded to whole pixels and to the VAE's grid of 8 on the way, so shapes agree only about so well.
ASPECT_TOLERANCE = 0.03


@dataclass(frozen=True)
class LatentNotes:
    """What is known of a latent; None where it is not.

    Attributes:
        framing: how the pictures were fitted to the VAE.
        frames: for a clip, how many frames were encoded, without the padding.
        relit: in a flat-lit LATENT, the samples that it was made from, of the same shape.
        matte: in a flat-lit LATENT, where the heads see the subject, [B, 1, h, w], or [1, 1, t, h, w] of a clip.
        decoder_lora: in a flat-lit LATENT, what the heads want the VAE's decoder changed by for it.
        coding: how the pictures were coded. exposure: [B], the factors that plates were exposed by.
        vae_probe: the VAE's latent of the test card (heads_file), to tell which VAE made the samples.
        vae_name: what to call that VAE in a message.
    """

    framing: Framing | None = None
    frames: int | None = None
    relit: Tensor | None = None
    matte: Tensor | None = None
    decoder_lora: DecoderLora | None = None
    coding: Coding = SRGB
    exposure: Tensor | None = None
    vae_probe: Tensor | None = None
    vae_name: str | None = None

    def needed_relit(self) -> Tensor:
        """`relit`, or a DelitError that says how to come by it."""
        if self.relit is None:
            raise DelitError(
                "Detail transfer needs the latent of the relit image, which this LATENT does not carry: "
                "it does not come straight from “Delit Apply”, or its size was changed on the way. "
                "Connect Delit Apply's LATENT, or turn detail transfer off."
            )
        return self.relit


def make_latent(z: Tensor, notes: LatentNotes) -> dict[str, Any]:
    """z of stills [B, 16, h, w] or of a clip [1, 16, t, h, w] → LATENT, its samples 5-D either way."""
    samples = rearrange(z, "b c h w -> b c 1 h w") if z.ndim == 4 else z
    return {"samples": samples, NOTES_KEY: notes}


def open_latent(latent: Mapping[str, Any]) -> tuple[Tensor, LatentNotes]:
    """LATENT → z, [B, 16, h, w] for stills or [1, 16, t, h, w] for a clip; and its notes.

    Samples of one time step are stills. Notes that no longer fit the samples (another node cropped or resized
    them) are dropped.

    Raises:
        DelitError: if the samples are not a Wan 2.1 VAE's.
    """
    samples = latent["samples"]
    _check_samples(samples)
    notes = latent.get(NOTES_KEY)
    notes = _still_true(notes, samples) if isinstance(notes, LatentNotes) else LatentNotes()
    if samples.shape[2] > 1:
        return samples, notes
    relit = None if notes.relit is None else notes.relit[:, :, 0]
    return samples[:, :, 0], replace(notes, relit=relit)


def fit_source(
    source: Tensor, mask: Tensor | None, framing: Framing, noted: bool
) -> tuple[Tensor, Tensor | None]:
    """Make a source [B, H, W, C] and its mask [B, h, w] lie over the pictures that a latent decodes to.

    Args:
        source, mask: as given to the node.
        framing: of the decoded pictures.
        noted: whether the framing comes from the LATENT's notes. Otherwise core's “VAE Encode” made the
            latent; it cuts sides that are not multiples of 8, half at either edge, and so does this.

    Raises:
        DelitError: if the source has another shape than the pictures.
    """
    height, width = source.shape[1:3]
    expected_height, expected_width = framing.source_size
    if abs(height * expected_width - width * expected_height) > ASPECT_TOLERANCE * height * expected_width:
        raise DelitError(
            f"The source is {width}×{height} pixels, but the latent is of a picture of {expected_width}×"
            f"{expected_height}, which has other proportions. Connect the source that was encoded."
        )
    if noted:
        return source, mask
    if mask is not None and mask.shape[-2:] == (height, width):
        mask = _cut_like_core(mask, mask.ndim - 2)
    return _cut_like_core(source, 1), mask


def decoded_framing(z: Tensor, notes: LatentNotes) -> Framing:
    """How the pictures that z decodes to lie in their source, as noted, or without loss where nothing is."""
    if notes.framing is not None:
        return notes.framing
    height, width = (VAE_STRIDE * side for side in z.shape[-2:])
    return Framing((height, width), (height, width))


def _check_samples(samples: Any) -> None:
    if not isinstance(samples, Tensor):
        raise DelitError(
            f"The LATENT holds a {type(samples).__name__}, not one tensor; Delit needs a Wan 2.1 latent."
        )
    shape = tuple(samples.shape)
    if samples.ndim != 5 or shape[1] != LATENT_CHANNELS:
        kind = "an SD or SDXL latent" if shape[1:2] == (4,) else "not of the Wan 2.1 VAE"
        raise DelitError(
            f"The LATENT has shape {shape}: {kind}. Delit works on [batch, {LATENT_CHANNELS}, frames, "
            "height, width] as the Wan 2.1 VAE gives it. Encode the image with “Delit Encode”, or with "
            "“VAE Encode” and a Wan 2.1 VAE."
        )
    if samples.numel() == 0:
        raise DelitError(f"The LATENT is empty (shape {shape}); connect one of at least one picture.")
    if shape[0] > 1 and shape[2] > 1:
        raise DelitError(
            f"The LATENT holds {shape[0]} clips of {shape[2]} latent frames each; Delit takes one clip at "
            "a time."
        )


def _still_true(notes: LatentNotes, samples: Tensor) -> LatentNotes:
    height, width = (VAE_STRIDE * side for side in samples.shape[-2:])
    if notes.framing is not None and notes.framing.padded_size != (height, width):
        logger.info(
            "The latent was resized since Delit encoded it: its pictures come back at %d×%d.", width, height
        )
        notes = replace(notes, framing=None)
    if notes.relit is not None and notes.relit.shape != samples.shape:
        notes = replace(notes, relit=None, matte=None)
    longest = 1 + FRAMES_PER_LATENT * (samples.shape[2] - 1)
    if notes.frames is not None and not longest - FRAMES_PER_LATENT < notes.frames <= longest:
        notes = replace(notes, frames=None)
    return notes


def _cut_like_core(x: Tensor, first_dim: int) -> Tensor:
    for dim in (first_dim, first_dim + 1):
        excess = x.shape[dim] % VAE_STRIDE
        x = x.narrow(dim, excess // 2, x.shape[dim] - excess)
    return x
