"""Delit stage by stage: encode, apply the heads, decode."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..delit_models.coding import SRGB, Source, open_source
from ..delit_models.images import Framing, refuse_empty_mask
from ..delit_models.latent_notes import (
    LatentNotes,
    decoded_framing,
    fit_source,
    make_latent,
    open_latent,
)
from ..delit_models.memory import gives_back_memory
from ..delit_models.stages import decode_pictures, encode_images, finish, picture_matte, working_matte
from .comfy_vae import ComfyVAE
from .delit_model import DelitModel
from .interrupting import interruptible
from .schema import (
    CLIP,
    DelitModelType,
    EnvCode,
    EnvCodeType,
    area_input,
    coding_input,
    detail_transfer_input,
    encode_mode_input,
    exposure_input,
    gain_output,
    mask_input,
    outside_input,
    schema,
    working_size_input,
)

NO_GAIN = (
    "Delit Decode gives a gain only where the source is connected: it is the flat-lit image over the source."
)


class DelitEncode(io.ComfyNode):
    """Pictures → latent of the relit image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitEncode",
            display_name="Delit Encode",
            description=(
                "Encodes images with a Wan 2.1 VAE for “Delit Apply”. Unlike “VAE Encode” it can keep the "
                "images of a batch apart, works at a chosen size, pads instead of cropping, and notes how "
                "to undo that."
            ),
            search_aliases=["vae encode", "wan encode", "relit latent"],
            inputs=[
                io.Vae.Input(
                    "vae", tooltip="A Wan 2.1 VAE, from “Load Wan VAE (Delit)” or core's “Load VAE”."
                ),
                io.Image.Input(
                    "image",
                    tooltip="Images or plates, at least 64 pixels on each side; “coding” says how they are coded.",
                ),
                DelitModelType.Input(
                    "delit_model",
                    optional=True,
                    tooltip=(
                        "The heads to encode for, which say at what size they were trained. Unconnected, a "
                        "working_size of 0 is the image's own."
                    ),
                ),
                working_size_input(),
                encode_mode_input(),
                coding_input(),
                exposure_input(),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The latent of the relit image, for “Delit Apply”.")],
        )

    @classmethod
    @gives_back_memory
    @interruptible
    def execute(
        cls,
        vae: object,
        image: torch.Tensor,
        working_size: int,
        mode: str,
        coding: str = SRGB,
        exposure: float = 0.0,
        delit_model: DelitModel | None = None,
    ) -> io.NodeOutput:
        codec, clip = ComfyVAE(vae), mode == CLIP
        source = open_source(image, coding, exposure, together=clip)
        trained_at = delit_model.config.working_size if delit_model else None
        z, framing = encode_images(codec, source, working_size or trained_at, clip)
        frames = len(image) if clip else None
        notes = LatentNotes(
            framing,
            frames,
            coding=coding,
            exposure=source.exposure if source.is_plate else None,
            vae_probe=codec.probe(),
            vae_name=codec.name,
        )
        return io.NodeOutput(make_latent(z, notes))


class DelitApply(io.ComfyNode):
    """Latent of the relit image → latent of the flat-lit image, and the light."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitApply",
            display_name="Delit Apply",
            description=(
                "Takes the light off a latent: out come the latent of the flat-lit image, and the "
                "lighting itself as a code for “Delit Decode Environment”. One pass, no sampling, no seed."
            ),
            search_aliases=["delight", "remove lighting", "estimate light"],
            inputs=[
                DelitModelType.Input("delit_model", tooltip="Heads, from “Load Delit Model”."),
                io.Latent.Input(
                    "latent",
                    tooltip=(
                        "From “Delit Encode”, or from “VAE Encode” with a Wan 2.1 VAE (a batch is then "
                        "one clip)."
                    ),
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "flat_latent", tooltip="The flat-lit image, for “Delit Decode” or “VAE Decode”."
                ),
                EnvCodeType.Output("env_code", tooltip="The lighting, for “Delit Decode Environment”."),
                io.Mask.Output(
                    "matte",
                    tooltip=(
                        "Where the heads see the subject, at the size that the network works at. “Delit Decode” "
                        "refines it along the source's edges."
                    ),
                ),
            ],
        )

    @classmethod
    @gives_back_memory
    @interruptible
    def execute(cls, delit_model: object, latent: dict) -> io.NodeOutput:
        z, notes = open_latent(latent)
        if notes.vae_probe is not None:
            delit_model.verify_vae(notes.vae_probe, notes.vae_name)
        z_flat, env_code, matte = delit_model.apply(z)
        kept = replace(
            notes,
            relit=latent["samples"],
            matte=matte if delit_model.config.matte else None,
            decoder_lora=delit_model.lora,
        )
        return io.NodeOutput(
            make_latent(z_flat, kept),
            EnvCode(env_code, notes.frames, notes.exposure),
            working_matte(matte, decoded_framing(z, notes), notes.frames),
        )


class DelitDecode(io.ComfyNode):
    """Latent of the flat-lit image → pictures at the source's size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitDecode",
            display_name="Delit Decode",
            description=(
                "Decodes a flat-lit latent. With the source connected the result has its size and, with "
                "detail transfer, its pores, hair and lettering; a mask then says what of it is delit."
            ),
            search_aliases=["vae decode", "detail transfer", "flat-lit"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE that encoded the image."),
                io.Latent.Input("flat_latent", tooltip="From “Delit Apply”."),
                io.Image.Input(
                    "source",
                    optional=True,
                    tooltip=(
                        "The image that was delit, at its full size. Needed for detail transfer and for a "
                        "mask."
                    ),
                ),
                mask_input(),
                detail_transfer_input(),
                outside_input(),
                area_input(),
            ],
            outputs=[
                io.Image.Output(
                    "flat",
                    tooltip=(
                        "The flat-lit image: albedo under an even white light. Coded as the source is; without "
                        "one, sRGB."
                    ),
                ),
                io.Mask.Output(
                    "matte",
                    tooltip="Where the heads see the subject, refined along the source's edges where it is connected.",
                ),
                gain_output(),
            ],
        )

    @classmethod
    @gives_back_memory
    @interruptible
    def execute(
        cls,
        vae: object,
        flat_latent: dict,
        detail_transfer: bool,
        outside: str,
        # Prompts from before there was a choice delit the whole picture.
        area: str = "picture",
        source: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        refuse_empty_mask(mask)
        codec = ComfyVAE(vae)
        z_flat, notes = open_latent(flat_latent)
        framing = decoded_framing(z_flat, notes)
        flat = decode_pictures(codec.with_lora(notes.decoder_lora), z_flat, framing)[: notes.frames]
        if source is None:
            done = finish(flat, None, None, mask, outside)
            matte = _matte_or_all(notes, framing, done.flat)
            return io.NodeOutput(done.flat, matte, ExecutionBlocker(NO_GAIN))
        source, mask = fit_source(source, mask, framing, noted=notes.framing is not None)
        opened = open_source(source, notes.coding, metered=notes.exposure)
        reconstruction = None
        if detail_transfer:
            reconstruction = decode_pictures(codec, notes.needed_relit(), framing).to(source.device)
        matte = _matte_or_all(notes, framing, source, opened)
        if mask is None and area == "subject" and notes.matte is not None:
            mask = matte
        done = finish(flat.to(source.device), opened, reconstruction, mask, outside)
        return io.NodeOutput(done.flat, matte, done.gain)


def _matte_or_all(
    notes: LatentNotes, framing: Framing, pictures: torch.Tensor, source: Source | None = None
) -> torch.Tensor:
    """The noted matte over pictures [B, H, W, C], refined where their source is there; else 1 everywhere."""
    if notes.matte is None:
        return torch.ones(pictures.shape[:3])
    if source is None:
        return working_matte(notes.matte, framing, notes.frames)
    return picture_matte(notes.matte, source, framing)
