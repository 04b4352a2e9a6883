"""Delit stage by stage: encode, apply the heads, decode."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io

from ..delit_models.latent_notes import (
    LatentNotes,
    decoded_framing,
    fit_source,
    make_latent,
    open_latent,
)
from ..delit_models.stages import decode_pictures, encode_images, finish
from .comfy_vae import ComfyVAE
from .delit_model import DelitModel
from .schema import (
    CLIP,
    DelitModelType,
    EnvCode,
    EnvCodeType,
    detail_transfer_input,
    mask_input,
    mode_input,
    outside_input,
    schema,
    working_size_input,
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
                    "image", tooltip="sRGB-coded images in [0, 1], at least 64 pixels on each side."
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
                mode_input(),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The latent of the relit image, for “Delit Apply”.")],
        )

    @classmethod
    def execute(
        cls,
        vae: object,
        image: torch.Tensor,
        working_size: int,
        mode: str,
        delit_model: DelitModel | None = None,
    ) -> io.NodeOutput:
        codec, clip = ComfyVAE(vae), mode == CLIP
        trained_at = delit_model.config.working_size if delit_model else None
        z, framing = encode_images(codec, image, working_size or trained_at, clip)
        frames = len(image) if clip else None
        notes = LatentNotes(framing, frames, vae_probe=codec.probe(), vae_name=codec.name)
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
            ],
        )

    @classmethod
    def execute(cls, delit_model: object, latent: dict) -> io.NodeOutput:
        z, notes = open_latent(latent)
        if notes.vae_probe is not None:
            delit_model.verify_vae(notes.vae_probe, notes.vae_name)
        z_flat, env_code, _ = delit_model.apply(z)
        kept = replace(notes, relit=latent["samples"])
        return io.NodeOutput(make_latent(z_flat, kept), EnvCode(env_code, notes.frames))


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
            ],
            outputs=[
                io.Image.Output("flat", tooltip="The flat-lit image: albedo under an even white light.")
            ],
        )

    @classmethod
    def execute(
        cls,
        vae: object,
        flat_latent: dict,
        detail_transfer: bool,
        outside: str,
        source: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        codec = ComfyVAE(vae)
        z_flat, notes = open_latent(flat_latent)
        framing = decoded_framing(z_flat, notes)
        reconstruction = None
        if source is not None:
            source, mask = fit_source(source, mask, framing, noted=notes.framing is not None)
            if detail_transfer:
                reconstruction = decode_pictures(codec, notes.needed_relit(), framing).to(source.device)
        flat = decode_pictures(codec, z_flat, framing)[: notes.frames]
        flat = flat if source is None else flat.to(source.device)
        return io.NodeOutput(finish(flat, source, reconstruction, mask, outside))
