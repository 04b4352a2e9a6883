"""The light used: flat-lit images in another light, and how well the light found explains a picture."""

from __future__ import annotations

from typing import get_args

from comfy_api.latest import io
from torch import Tensor

from ..delit_models.closure import closure
from ..delit_models.coding import SRGB, Coding
from ..delit_models.memory import gives_back_memory
from ..delit_models.normals import OPENGL, NormalConvention
from ..delit_models.relight import F0, ROUGHNESS_RANGE, RelightOptions, relight
from .interrupting import interruptible
from .progress import show_progress
from .schema import schema


class DelitRelight(io.ComfyNode):
    """Flat-lit images, normals and environment maps → relit images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitRelight",
            display_name="Delit Relight",
            description=(
                "Puts a flat-lit image into the light of an environment map, with the help of a normal map: a diffuse "
                "and a glossy part, in linear light, keeping energy. Under even white light it gives the flat-lit "
                "image back. Cast shadows are not computed."
            ),
            search_aliases=["relighting", "ibl", "image based lighting", "light transfer", "normal map"],
            inputs=[
                io.Image.Input(
                    "flat", tooltip="Flat-lit images or plates, from “Delit Portrait”; “coding” says which."
                ),
                _normals_input(),
                io.Image.Input(
                    "env",
                    tooltip=(
                        "Environment maps in linear light, twice as wide as high, in Delit's orientation. “Transform "
                        "Environment Map (Delit)” turns and exposes them."
                    ),
                ),
                io.Float.Input(
                    "specular",
                    default=RelightOptions.specular,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip=(
                        f"Strength of the glossy part: 1 is a reflectance of {F0:.0%} seen straight on, as of wet skin "
                        "or varnish; dry skin has less. 0 leaves it out."
                    ),
                ),
                io.Float.Input(
                    "roughness",
                    default=RelightOptions.roughness,
                    min=ROUGHNESS_RANGE[0],
                    max=ROUGHNESS_RANGE[1],
                    step=0.05,
                    tooltip="Of the glossy part: lower is shinier. As in Blender; skin is about 0.5.",
                ),
                _convention_input(),
                _coding_input(
                    "flat-lit images", "The result is coded alike; what passes 1 is clipped in sRGB alone."
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "What to relight: 1 on the subject. Elsewhere, and where the normal map is black, white or "
                        "grey, the image stays as it is."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output("relit", tooltip="The images in the new light, coded as the flat-lit ones."),
                io.Image.Output(
                    "diffuse",
                    tooltip="The diffuse part in linear light, and what was not relit. For compositing.",
                ),
                io.Image.Output(
                    "glossy", tooltip="The glossy part in linear light: diffuse + glossy is the relit image."
                ),
            ],
        )

    @classmethod
    @gives_back_memory
    @interruptible
    def execute(
        cls,
        flat: Tensor,
        normals: Tensor,
        env: Tensor,
        specular: float,
        roughness: float,
        convention: NormalConvention,
        coding: Coding,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        options = RelightOptions(specular, roughness, coding, convention)
        result = relight(flat, normals, env, mask, options, show_progress())
        return io.NodeOutput(result.picture, result.diffuse, result.glossy)


class DelitClosure(io.ComfyNode):
    """Source, flat-lit image, normals and light → how well they close."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitClosure",
            display_name="Delit Closure",
            description=(
                "Says how well the light found explains a picture: puts the flat-lit image back into it and compares "
                "with the source, in stops, as a false-colour map, numbers and words. A bad estimate is seen before "
                "it is used."
            ),
            search_aliases=["check light", "error map", "confidence", "residual", "hdri quality"],
            inputs=[
                io.Image.Input("source", tooltip="The pictures as they were lit."),
                io.Image.Input("flat", tooltip="Their flat-lit images, of the same size."),
                _normals_input(),
                io.Image.Input("env", tooltip="The light found, in linear light, in Delit's orientation."),
                _convention_input(),
                _coding_input("source and flat-lit images", "Of linear plates the exposure is not compared."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where to compare: 1 on the subject. “matte” of “Delit Portrait” fits.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "map",
                    tooltip=(
                        "The difference in false colour. Grey: within a quarter of a stop. Yellow, red: the source is "
                        "1, 2 stops brighter than the light explains. Light blue, blue: 1, 2 stops darker, as cast "
                        "shadows are. Dim: not compared."
                    ),
                ),
                io.Image.Output("relit", tooltip="The flat-lit images in the found light, matte."),
                io.Float.Output(
                    "explained",
                    tooltip=(
                        "Share of the shading that the light explains: 1 is all, 0 no more than even light would, "
                        "below 0 it is worse. Of several pictures the mean."
                    ),
                ),
                io.Float.Output(
                    "residual",
                    tooltip="Root mean square of what is left unexplained, in stops. Of several pictures the mean.",
                ),
                io.String.Output("text", tooltip="The numbers of each picture in words."),
            ],
        )

    @classmethod
    @gives_back_memory
    @interruptible
    def execute(
        cls,
        source: Tensor,
        flat: Tensor,
        normals: Tensor,
        env: Tensor,
        convention: NormalConvention,
        coding: Coding,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        result = closure(source, flat, normals, env, mask, coding, convention, show_progress())
        pictures = result.pictures
        explained, residual = (
            sum(getattr(one, name) for one in pictures) / len(pictures) for name in ("explained", "residual")
        )
        text = "\n".join(
            (f"{index}: " if len(pictures) > 1 else "") + one.text() for index, one in enumerate(pictures)
        )
        return io.NodeOutput(result.map, result.relit, explained, residual, text)


def _normals_input() -> io.Input:
    return io.Image.Input(
        "normals",
        tooltip=(
            "A normal map of the same picture, in camera space: each component n as n / 2 + 1/2, blue towards the "
            "camera. From MoGe in core, or any pack; “convention” says which way green goes."
        ),
    )


def _convention_input() -> io.Input:
    return io.Combo.Input(
        "convention",
        options=list(get_args(NormalConvention)),
        default=OPENGL,
        tooltip=(
            "Which way green goes in the normal map. OpenGL (+Y up): up is bright, as in Blender and MoGe's "
            "normal_opengl. DirectX (-Y up): up is dark, as in Unreal and MoGe's normal_directx."
        ),
    )


def _coding_input(what: str, result: str) -> io.Input:
    return io.Combo.Input(
        "coding",
        options=list(get_args(Coding)),
        default=SRGB,
        tooltip=(
            f"How the {what} are coded. sRGB: ordinary pictures, in [0, 1]. linear Rec.709, ACEScg: plates in linear "
            f"light with values over 1. {result}"
        ),
    )
