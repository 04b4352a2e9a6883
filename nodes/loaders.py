"""Nodes that load weights, and the example picture."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..delit_models.atomic_write import is_hidden
from ..delit_models.checkpoint import load_wan_vae
from ..delit_models.errors import DelitError
from ..delit_models.image_files import read_image
from .comfy_vae import core_vae
from .delit_model import DelitModel, embedded_model, embedded_vae
from .schema import EMBEDDED_HEADS_NAME, EMBEDDED_VAE_NAME, DelitModelType, schema

# Not “examples”: ComfyUI would serve that folder as workflow templates and hide workflows/ behind it.
PORTRAITS = Path(__file__).parent.parent / "portraits"
NO_TRUTH = "This example portrait is a photograph: it has no normal map and no mask. Choose “rendered”."


class DelitLoadWanVAE(io.ComfyNode):
    """A VAE file → VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitLoadWanVAE",
            display_name="Load Wan VAE (Delit)",
            description=(
                "Loads the VAE of Wan 2.1 (and of Wan 2.2 A14B), or the narrow one that comes with Delit. "
                "It is an ordinary VAE that works everywhere. Files in the original Wan layout and in "
                "diffusers' are read; other VAEs are refused, saying what they are."
            ),
            search_aliases=["wan vae", "vae loader"],
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=[EMBEDDED_VAE_NAME, *_files("vae")],
                    default=EMBEDDED_VAE_NAME,
                    tooltip=(
                        f"“{EMBEDDED_VAE_NAME}”, which the embedded heads belong to, or a file of models/vae such as "
                        "wan_2.1_vae.safetensors. Heads work only with the VAE that they were trained with, and none "
                        "for the full Wan VAE come with Delit: training makes them."
                    ),
                )
            ],
            outputs=[io.Vae.Output("vae", tooltip="An ordinary ComfyUI VAE.")],
        )

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        if vae_name == EMBEDDED_VAE_NAME:
            return io.NodeOutput(embedded_vae())
        return io.NodeOutput(core_vae(load_wan_vae(_model_file("vae", vae_name)), vae_name))

    @classmethod
    def fingerprint_inputs(cls, vae_name: str) -> str:
        return vae_name if vae_name == EMBEDDED_VAE_NAME else _fingerprint(_model_file("vae", vae_name))


class DelitLoadModel(io.ComfyNode):
    """A heads file → DELIT_MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitLoadModel",
            display_name="Load Delit Model",
            description=(
                "Loads Delit's heads: the small networks that take the light off a latent and say what "
                "the light was. A heads file knows the VAE that it was trained with: “Delit Portrait” and the "
                "latents of “Delit Encode” are refused with any other."
            ),
            search_aliases=["delit heads", "delight model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=[EMBEDDED_HEADS_NAME, *_files("delit")],
                    default=EMBEDDED_HEADS_NAME,
                    tooltip=(
                        f"“{EMBEDDED_HEADS_NAME}”: the heads that come with Delit, which belong to its narrow VAE. "
                        "Or a heads file of models/delit, as training makes it."
                    ),
                )
            ],
            outputs=[DelitModelType.Output("delit_model", tooltip="For “Delit Apply” and “Delit Portrait”.")],
        )

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        if model_name == EMBEDDED_HEADS_NAME:
            return io.NodeOutput(embedded_model())
        return io.NodeOutput(DelitModel(_model_file("delit", model_name)))

    @classmethod
    def fingerprint_inputs(cls, model_name: str) -> str:
        return (
            model_name
            if model_name == EMBEDDED_HEADS_NAME
            else _fingerprint(_model_file("delit", model_name))
        )


class DelitExamplePortrait(io.ComfyNode):
    """A shipped picture → IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = sorted(file.stem for file in PORTRAITS.glob("*.jpg"))
        return schema(
            node_id="DelitExamplePortrait",
            display_name="Delit Example Portrait",
            description=(
                "A portrait that comes with Delit, so that the shipped workflows run at once. Put “Load "
                "Image” in its place for your own."
            ),
            search_aliases=["sample portrait", "test image"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=names,
                    default=names[0] if names else None,
                    tooltip=(
                        "photograph: astronaut Eileen Collins, by NASA, public domain. photograph_grey: a man with a "
                        "camera, by Lav Varshney, CC0. Rendered people who do not exist: rendered (with normals "
                        "and mask), rendered_bare_lamp, "
                        "rendered_hard_key, rendered_sun_and_sky, rendered_two_colours."
                    ),
                )
            ],
            outputs=[
                io.Image.Output("image", tooltip="The portrait, sRGB-coded."),
                io.Image.Output(
                    "normals",
                    tooltip=(
                        "The normal map of a rendered portrait, for “Delit Relight” and “Delit Closure”: camera space, "
                        "OpenGL (+Y up). A photograph has none."
                    ),
                ),
                io.Mask.Output(
                    "mask", tooltip="Where the subject of a rendered portrait is. A photograph has none."
                ),
            ],
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        image = read_image(PORTRAITS / f"{name}.jpg")[None, ..., :3]
        normals, mask = (PORTRAITS / f"{name}_{part}.png" for part in ("normals", "mask"))
        if not normals.is_file():
            return io.NodeOutput(image, ExecutionBlocker(NO_TRUTH), ExecutionBlocker(NO_TRUTH))
        return io.NodeOutput(image, read_image(normals)[None, ..., :3], read_image(mask)[None, ..., 0])


def _files(folder: str) -> list[str]:
    """What a folder of models offers; not what training has begun to write there."""
    return [name for name in folder_paths.get_filename_list(folder) if not is_hidden(name)]


def _model_file(folder: str, name: str) -> Path:
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        raise DelitError(
            f"There is no {name} in models/{folder}, or in the folders that extra_model_paths.yaml adds to "
            "it. Put it there, or choose another file, and refresh the node."
        )
    return Path(path)


def _fingerprint(path: Path) -> str:
    """Changes when the file does, so that newly trained weights of the same name are loaded again."""
    state = path.stat()
    return f"{path}:{state.st_size}:{state.st_mtime_ns}"
