"""Environment maps: decoding the light, and files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import io, ui
from torch import Tensor

from ..delit_models.atomic_write import is_hidden
from ..delit_models.color import auto_exposure, tone_map
from ..delit_models.env_map_files import ENV_SUFFIXES, WEIGHTS_ATTRIBUTE, read_env_map, write_env_map
from ..delit_models.errors import DelitError
from ..delit_models.free_names import free_number
from ..delit_models.lat_long import ORIENTATIONS
from ..delit_models.stages import decode_light
from .delit_model import DelitModel
from .folders import input_file, save_place
from .interrupting import interruptible
from .schema import DelitModelType, EnvCode, EnvCodeType, core_opens_hdr, env_pooling_input, schema

AS_STORED = "as stored in the file"
ORIENTATION_HELP = (
    "delit: the centre is straight ahead of the camera, behind the subject; right of it is the camera's "
    "right. blender, openexr (also USD), unreal, nuke, three.js, cinema 4d (its Sky; mirrored): turned so that the "
    "light comes from the same side there, with no rotation set."
)


def preview(env: Tensor, stops: float = 0.0) -> Tensor:
    """Maps [B, H, W, 3] → sRGB pictures, all at one exposure, so that the frames of a clip do not flicker."""
    return tone_map(env, exposure=auto_exposure(env).median().item() * 2.0**stops)


class DelitDecodeEnv(io.ComfyNode):
    """Env code → environment map."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitDecodeEnv",
            display_name="Delit Decode Environment",
            description=(
                "Turns the light that “Delit Apply” found into an HDR environment map: lat-long, 256×128, "
                "in linear light, where a mirror showing 1.0 is a white pixel."
            ),
            search_aliases=["hdri", "environment map", "light probe"],
            inputs=[
                EnvCodeType.Input("env_code", tooltip="From “Delit Apply”."),
                env_pooling_input(),
                io.Float.Input(
                    "exposure",
                    default=0.0,
                    min=-16.0,
                    max=16.0,
                    step=0.5,
                    tooltip=(
                        "Brightness of the preview in stops, around an automatic exposure. The HDR map "
                        "itself is never changed."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output("env", tooltip="The map in linear light, with values over 1."),
                io.Image.Output("env_preview", tooltip="The map, tone-mapped to look at."),
            ],
        )

    @classmethod
    @interruptible
    def execute(cls, env_code: EnvCode, env_pooling: str, exposure: float) -> io.NodeOutput:
        env = decode_light(env_code.code, env_pooling, env_code.frames, env_code.exposure)
        return io.NodeOutput(env, preview(env, exposure))


class DelitSaveEnvMap(io.ComfyNode):
    """Environment maps → .exr or .hdr files in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitSaveEnvMap",
            display_name="Save Environment Map (Delit)",
            description=(
                "Saves environment maps as OpenEXR or Radiance HDR, turned the way your program expects, "
                "with their full range. The node shows a tone-mapped preview."
            ),
            search_aliases=["save exr", "save hdr", "export hdri"],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "env", tooltip="Maps in linear light, twice as wide as high, in Delit's orientation."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="delit/env",
                    tooltip=(
                        "Name in the output folder, with subfolders and tokens such as %year% if you "
                        "like. A number is added, as in env.0001.exr; nothing is overwritten."
                    ),
                ),
                io.Combo.Input(
                    "format",
                    options=["exr", "hdr"],
                    default="exr",
                    tooltip="exr: OpenEXR, exact. hdr: Radiance, within 1%, for programs that read no EXR.",
                ),
                io.Combo.Input(
                    "bit_depth",
                    options=["half", "float"],
                    default="half",
                    tooltip=(
                        "Of an EXR: half is 16 bits and holds values up to 65504, float is 32. An HDR has "
                        "one depth."
                    ),
                ),
                io.Combo.Input(
                    "orientation", options=list(ORIENTATIONS), default="delit", tooltip=ORIENTATION_HELP
                ),
                DelitModelType.Input(
                    "delit_model",
                    optional=True,
                    tooltip="The heads that made the map: their hash is then written into the EXR's header.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    @interruptible
    def execute(
        cls,
        env: Tensor,
        filename_prefix: str,
        format: str,
        bit_depth: str,
        orientation: str,
        delit_model: DelitModel | None = None,
    ) -> io.NodeOutput:
        shown = ui.PreviewImage(preview(env), cls=cls).as_dict()
        folder, name, subfolder = save_place(filename_prefix, env)
        number = free_number(Path(folder), name, ENV_SUFFIXES)
        header = header_strings(cls.hidden, delit_model) if format == "exr" else None
        depth = bit_depth if format == "exr" else "half"
        saved = []
        for offset, radiance in enumerate(env):
            throw_exception_if_processing_interrupted()
            file = f"{name}.{number + offset:04}.{format}"
            path = os.path.join(folder, file)
            write_env_map(
                path, radiance, bit_depth=depth, orientation=orientation, header=header, overwrite=False
            )
            saved.append(ui.SavedResult(file, subfolder, io.FolderType.output))
        # Core's HDR viewer opens what is among the `images`.
        images = [*shown["images"], *(saved if core_opens_hdr() else [])]
        return io.NodeOutput(ui={**shown, "images": images, "env_files": saved})


class DelitLoadEnvMap(io.ComfyNode):
    """An .exr or .hdr file of the input folder → environment map."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitLoadEnvMap",
            display_name="Load Environment Map (Delit)",
            description=(
                "Loads a lat-long environment map (.exr or .hdr) from the input folder or below, with its full "
                "range, and turns it into Delit's orientation."
            ),
            search_aliases=["load exr", "load hdr", "load hdri"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_env_files(),
                    tooltip="An .exr or .hdr file in ComfyUI's input folder or below, twice as wide as high.",
                ),
                io.Combo.Input(
                    "orientation",
                    options=[AS_STORED, *ORIENTATIONS],
                    default=AS_STORED,
                    tooltip=(
                        f"Which way the file is turned. “{AS_STORED}” takes what Delit wrote into an EXR's "
                        "header, and else “delit”. "
                    )
                    + ORIENTATION_HELP,
                ),
            ],
            outputs=[
                io.Image.Output(
                    "env", tooltip="The map in linear light, in Delit's orientation, at its own size."
                ),
                io.Image.Output("env_preview", tooltip="The map, tone-mapped to look at."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        # Having this method with `file` lets a file pass that came after the server listed the folder.
        try:
            return input_file(file).is_file() or f"There is no {file} in the input folder."
        except DelitError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, file: str, orientation: str) -> str:
        state = input_file(file).stat()
        return f"{file}:{orientation}:{state.st_size}:{state.st_mtime_ns}"

    @classmethod
    @interruptible
    def execute(cls, file: str, orientation: str) -> io.NodeOutput:
        stored = None if orientation == AS_STORED else orientation
        env = read_env_map(input_file(file), stored).radiance[None]
        shown = preview(env)
        return io.NodeOutput(env, shown, ui=ui.PreviewImage(shown, cls=cls))


def header_strings(hidden: io.HiddenHolder, model: DelitModel | None) -> dict[str, str]:
    """Strings for an EXR: the heads' hash, and the graph unless ComfyUI runs with --disable-metadata."""
    header = {} if model is None else {WEIGHTS_ATTRIBUTE: model.sha256}
    if args.disable_metadata:
        return header
    graph = {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}
    return header | {name: json.dumps(value) for name, value in graph.items() if value is not None}


def _env_files() -> list[str]:
    """Maps under the input folder, with subfolders: “skies/noon.exr”."""
    top = Path(folder_paths.get_input_directory())
    found = []
    # Links to folders are not followed: they can lead out of the input folder, or around in it.
    for folder, subfolders, names in os.walk(top, followlinks=False):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        inside = Path(folder).relative_to(top)
        found += [
            (inside / name).as_posix()
            for name in names
            if Path(name).suffix.lower() in ENV_SUFFIXES and not is_hidden(name)
        ]
    return sorted(found)
