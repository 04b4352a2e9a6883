"""The environment map shown in the node; the page's part is web/env_map_viewer.js."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import folder_paths
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui
from torch import Tensor

from ..delit_models.atomic_write import atomic_write
from ..delit_models.env_map_files import write_env_map
from ..delit_models.env_view import view_notes, view_pixels
from ..delit_models.lazy_openimageio import is_installed
from .interrupting import interruptible
from .schema import core_opens_hdr, schema


class DelitPreviewEnvMap(io.ComfyNode):
    """Environment maps → a viewer in the node; the maps go on unchanged."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitPreviewEnvMap",
            display_name="Preview Environment Map (Delit)",
            description=(
                "Shows environment maps at their full range: drag to look around, or see the map flat; exposure, false "
                "colours in stops, mirror, matte silver and diffuse balls in its light, and where the main light comes "
                "from."
            ),
            search_aliases=["hdri viewer", "360 viewer", "panorama", "preview hdr", "false color"],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "env",
                    tooltip="Maps in linear light, twice as wide as high, in Delit's orientation. Of a batch, each.",
                ),
            ],
            outputs=[io.Image.Output("env", tooltip="The maps, unchanged.")],
        )

    @classmethod
    @interruptible
    def execute(cls, env: Tensor) -> io.NodeOutput:
        folder = Path(folder_paths.get_temp_directory())
        # A name of its own for every run: the browser keeps what it has loaded.
        name = f"delit_env_{secrets.token_hex(6)}"
        bar, views, exrs = ProgressBar(len(env)), [], []
        for number, radiance in enumerate(env, 1):
            throw_exception_if_processing_interrupted()
            views.append(_write_view(folder, f"{name}.{number:04}.rgb16f", radiance))
            if core_opens_hdr() and is_installed():
                exr = f"{name}.{number:04}.exr"
                write_env_map(folder / exr, radiance)
                exrs.append(ui.SavedResult(exr, "", io.FolderType.temp))
            bar.update(1)
        shown: dict[str, Any] = {"delit_env_maps": views}
        return io.NodeOutput(env, ui=shown | ({"images": exrs} if exrs else {}))


def _write_view(folder: Path, file: str, radiance: Tensor) -> dict[str, Any]:
    """One map for the page: a file of half floats (rows from the zenith down, R, G, B), and what is to know of it."""
    pixels = view_pixels(radiance)
    with atomic_write(folder / file) as temporary:
        temporary.write_bytes(pixels.tobytes())
    height, width, _ = pixels.shape
    return {
        **ui.SavedResult(file, "", io.FolderType.temp),
        "width": width,
        "height": height,
        **view_notes(radiance),
    }
