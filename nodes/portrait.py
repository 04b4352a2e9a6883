"""Delit in one node."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..delit_models.coding import SRGB
from ..delit_models.images import refuse_empty_mask
from ..delit_models.memory import gives_back_memory
from ..delit_models.pipeline import DelitOptions
from ..delit_models.video.continuity import is_clip
from .delit_model import DelitModel, pipeline_of
from .env_maps import preview
from .interrupting import interruptible
from .progress import show_progress
from .schema import (
    AUTO,
    CLIP,
    area_input,
    coding_input,
    delit_model_input,
    detail_transfer_input,
    env_pooling_input,
    env_preview_output,
    exposure_input,
    gain_output,
    mask_input,
    mode_input,
    outside_input,
    schema,
    vae_input,
    working_size_input,
)


class DelitPortrait(io.ComfyNode):
    """Relit pictures → flat-lit pictures and their environment maps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitPortrait",
            display_name="Delit Portrait",
            description=(
                "Takes the light off a portrait, photo or clip: out come the flat-lit image, as if lit by "
                "an even white light, and the lighting itself as an HDR environment map. Works as it is, "
                "on the small weights that come with the pack. Heads that you trained, for your own pictures or for "
                "the full Wan 2.1 VAE, are connected instead, together with their VAE."
            ),
            search_aliases=[
                "delight",
                "remove shadows",
                "flat light",
                "albedo",
                "relight",
                "hdri from photo",
            ],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Images or plates, at least 64 pixels on each side; “coding” says how they are coded.",
                ),
                mask_input(),
                vae_input(),
                delit_model_input(),
                working_size_input(),
                mode_input(),
                detail_transfer_input(),
                outside_input(),
                area_input(),
                coding_input(),
                exposure_input(),
                env_pooling_input(optional=True),
            ],
            outputs=[
                io.Image.Output("flat", tooltip="The flat-lit image: albedo under an even white light."),
                io.Image.Output(
                    "env",
                    tooltip=(
                        "The environment map, 256×128, in linear light with values over 1: for “Save "
                        "Environment Map (Delit)” and HDR nodes. One for each still; of a clip as “env_pooling” says."
                    ),
                ),
                env_preview_output(),
                io.Mask.Output(
                    "matte", tooltip="Where the heads see the subject, refined along the image's edges."
                ),
                gain_output(),
            ],
        )

    @classmethod
    @gives_back_memory
    @interruptible
    def execute(
        cls,
        image: torch.Tensor,
        working_size: int,
        mode: str,
        detail_transfer: bool,
        outside: str,
        # Prompts from before there was a choice delit the whole picture.
        area: str = "picture",
        coding: str = SRGB,
        exposure: float = 0.0,
        env_pooling: str = "shot",
        mask: torch.Tensor | None = None,
        vae: object | None = None,
        delit_model: DelitModel | None = None,
    ) -> io.NodeOutput:
        refuse_empty_mask(mask)
        clip = mode == CLIP or (mode == AUTO and is_clip(image))
        options = DelitOptions(
            working_size, detail_transfer, area, outside, clip, env_pooling, coding, exposure
        )
        pipeline = pipeline_of(vae, delit_model)
        result = pipeline(image, mask, options, show_progress())
        return io.NodeOutput(result.flat, result.env, preview(result.env), result.matte, result.gain)
