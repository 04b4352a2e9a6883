"""What the nodes' schemas share: socket types, common inputs, and the guard for older ComfyUI versions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_args

from comfy_api.latest import io
from torch import Tensor

from ..delit_models.coding import SRGB, Coding
from ..delit_models.images import Area, Outside
from ..delit_models.video.light import EnvPooling

CATEGORY = "Delit"
EMBEDDED_VAE_NAME = "embedded (narrow, CPU-friendly)"
EMBEDDED_HEADS_NAME = "embedded"
AUTO, STILLS, CLIP = "auto", "stills", "clip"

DelitModelType = io.Custom("DELIT_MODEL")
EnvCodeType = io.Custom("ENV_CODE")


@dataclass(frozen=True)
class EnvCode:
    """What travels on an ENV_CODE wire.

    Attributes:
        code: [B, 4, 128, 256] of stills, [1, t, 4, 128, 256] of a clip.
        frames: of a clip, how many frames it has, where that is known.
        exposure: [B], the factors that plates were exposed by; None for sRGB-coded pictures.
    """

    code: Tensor
    frames: int | None = None
    exposure: Tensor | None = None


def schema(search_aliases: list[str], **values: Any) -> io.Schema:
    """An io.Schema in Delit's category.

    Fields that came after ComfyUI 0.8.0 are left out where it lacks them: an unknown one is a TypeError that
    takes the whole pack down.
    """
    known = {field.name for field in fields(io.Schema)}
    newer = {"search_aliases": search_aliases}
    return io.Schema(category=CATEGORY, **values, **{name: v for name, v in newer.items() if name in known})


@lru_cache(maxsize=1)
def core_opens_hdr() -> bool:
    """Whether the front end has a viewer for .exr and .hdr among a node's `images`, as every one has from 1.47 on.

    Older ones (ComfyUI 0.8.0 comes with 1.35) show a broken picture in its place.
    """
    try:
        release = version("comfyui_frontend_package").split(".")
    except PackageNotFoundError:
        return False
    return tuple(int(part) for part in release[:2] if part.isdigit()) >= (1, 47)


def working_size_input() -> io.Input:
    return io.Int.Input(
        "working_size",
        default=0,
        min=0,
        max=4096,
        step=8,
        tooltip=(
            "Longest side, in pixels, that the network sees. 0 is the size that the heads were trained at, "
            "where they are best. Smaller images are not enlarged. With detail transfer the result keeps "
            "the source's size and detail whatever this is."
        ),
    )


def mode_input() -> io.Input:
    return io.Combo.Input(
        "mode",
        options=[AUTO, STILLS, CLIP],
        default=AUTO,
        tooltip=(
            "stills: every image of the batch is a picture of its own. clip: the batch is one shot in time, in "
            "order, and is kept steady from frame to frame. auto: clip for 5 images or more that follow each other "
            "like the frames of a video, else stills."
        ),
    )


def encode_mode_input() -> io.Input:
    return io.Combo.Input(
        "mode",
        options=[STILLS, CLIP],
        default=STILLS,
        tooltip=(
            "stills: every image of the batch is a picture of its own. clip: the batch goes through the VAE as one "
            "shot in time, for VAEs that are good in time: the embedded one is not. “Delit Portrait” and “Delit "
            "Video” keep clips steady with any."
        ),
    )


def detail_transfer_input() -> io.Input:
    return io.Boolean.Input(
        "detail_transfer",
        default=True,
        tooltip=(
            "Take only the change of light from the network and everything else from the source, so that "
            "pores, hair and lettering survive. Off: the picture as the VAE decodes it."
        ),
    )


def outside_input() -> io.Input:
    return io.Combo.Input(
        "outside",
        options=list(get_args(Outside)),
        default="source",
        tooltip=(
            "What lies outside the mask or the subject. source: the picture as it was. black. transparent: the image "
            "comes out as RGBA."
        ),
    )


def area_input() -> io.Input:
    return io.Combo.Input(
        "area",
        options=list(get_args(Area)),
        default="subject",
        optional=True,
        tooltip=(
            "What is delit where no mask is connected. subject: the person, as the heads see it; what is behind "
            "stays as it was. picture: all of it."
        ),
    )


def coding_input() -> io.Input:
    return io.Combo.Input(
        "coding",
        options=list(get_args(Coding)),
        default=SRGB,
        optional=True,
        tooltip=(
            "How the images are coded. sRGB: ordinary pictures, in [0, 1]. linear Rec.709, ACEScg: plates in linear "
            "light with values over 1; the network sees an exposed copy, and its gain is multiplied onto the plate "
            "itself, which nothing clips. The result is coded alike."
        ),
    )


def exposure_input() -> io.Input:
    return io.Float.Input(
        "exposure",
        default=0.0,
        min=-16.0,
        max=16.0,
        step=0.25,
        optional=True,
        tooltip=(
            "For plates: how many stops brighter the network is to see them than it exposes them by itself. The result "
            "keeps the plate's own exposure. Ordinary pictures ignore this."
        ),
    )


def gain_output() -> io.Output:
    return io.Image.Output(
        "gain",
        tooltip=(
            "What the source's linear light is multiplied by, per pixel: for a grade, or for the plate in another "
            "program. Values over 1; 1 where nothing changes."
        ),
    )


def vae_input() -> io.Input:
    return io.Vae.Input(
        "vae",
        optional=True,
        tooltip="The VAE that the heads were trained with. Unconnected: the pack's own narrow one.",
    )


def delit_model_input() -> io.Input:
    return DelitModelType.Input(
        "delit_model",
        optional=True,
        tooltip="Heads, from “Load Delit Model”. Unconnected: the pack's own, for its own VAE.",
    )


def env_preview_output() -> io.Output:
    return io.Image.Output("env_preview", tooltip="The environment map, tone-mapped to look at.")


def mask_input() -> io.Input:
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip=(
            "What to delit: 1 on the subject. One mask for all images or one for each; another size is "
            "resized."
        ),
    )


def env_pooling_input(optional: bool = False) -> io.Input:
    return io.Combo.Input(
        "env_pooling",
        options=list(get_args(EnvPooling)),
        default="shot",
        optional=optional,
        tooltip=(
            "For clips. shot: one map for the whole clip, the median over time. frame: a map a frame, "
            "smoothed over time. Stills always get a map each."
        ),
    )
