"""Delit in one node."""

from __future__ import annotations

import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io

from ..delit_models.coding import SRGB
from ..delit_models.pipeline import DelitOptions, DelitPipeline
from ..delit_models.video.continuity import is_clip
from .delit_model import DelitModel, checked_codec, embedded_model, embedded_vae
from .env_maps import preview
from .schema import (
    AUTO,
    CLIP,
    DelitModelType,
    area_input,
    coding_input,
    detail_transfer_input,
    env_pooling_input,
    exposure_input,
    gain_output,
    mask_input,
    mode_input,
    outside_input,
    schema,
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
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip=(
                        "The VAE that the heads were trained with. Unconnected: the pack's own narrow one."
                    ),
                ),
                DelitModelType.Input(
                    "delit_model",
                    optional=True,
                    tooltip="Heads, from “Load Delit Model”. Unconnected: the pack's own, for its own VAE.",
                ),
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
                io.Image.Output("env_preview", tooltip="The environment map, tone-mapped to look at."),
                io.Mask.Output(
                    "matte", tooltip="Where the heads see the subject, refined along the image's edges."
                ),
                gain_output(),
            ],
        )

    @classmethod
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
        model = delit_model or embedded_model()
        codec = checked_codec(vae or embedded_vae(), model)
        clip = mode == CLIP or (mode == AUTO and is_clip(image))
        options = DelitOptions(
            working_size, detail_transfer, area, outside, clip, env_pooling, coding, exposure
        )
        pipeline = DelitPipeline(codec, model.apply, model.config, codec.with_lora(model.lora))
        result = pipeline(image, mask, options, _show_progress(ProgressBar(1)))
        return io.NodeOutput(result.flat, result.env, preview(result.env), result.matte, result.gain)


def _show_progress(bar: ProgressBar):
    """A pipeline's progress on the node's bar; between two steps the user can stop the run."""

    def show(done: int, total: int) -> None:
        throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return show
