"""Delit for ComfyUI: registers the model folder and the nodes, which are in nodes/, over delit_models/."""

from __future__ import annotations

import sys

MINIMUM_COMFYUI = (0, 8, 0)
WEB_DIRECTORY = "./web"


def _require_comfyui() -> None:
    """Say what is needed before an older ComfyUI fails on an import that means nothing to its user."""
    try:
        from comfyui_version import __version__ as version
    except ImportError:
        version = "0.0.0"
    if tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) < MINIMUM_COMFYUI:
        needed = ".".join(map(str, MINIMUM_COMFYUI))
        raise ImportError(
            f"Delit needs ComfyUI {needed} or newer, this is {version}. Update ComfyUI, then restart it."
        )


def _register_model_folder() -> None:
    """models/delit and what extra_model_paths.yaml lists under `delit`, showing only .safetensors files."""
    import os

    import folder_paths

    folder_paths.add_model_folder_path("delit", os.path.join(folder_paths.models_dir, "delit"))
    paths, extensions = folder_paths.folder_names_and_paths["delit"]
    folder_paths.folder_names_and_paths["delit"] = (paths, set(extensions) | {".safetensors"})


# pytest imports an __init__.py at a repository's root too; outside ComfyUI there is nothing to register.
if "folder_paths" in sys.modules:
    _require_comfyui()
    _register_model_folder()

    async def comfy_entrypoint():
        """What ComfyUI calls for the list of nodes."""
        from .nodes.extension import DelitExtension

        return DelitExtension()
