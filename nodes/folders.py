"""What a graph names is read from and written to ComfyUI's own folders, and no link leads out of them.

ComfyUI checks names itself, newer versions with links; these checks hold in all versions that Delit runs in.
"""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
from torch import Tensor

from ..delit_models.errors import DelitError


def input_file(name: str) -> Path:
    """The file that “sky.exr” or “env.exr [output]” stands for. DelitError outside ComfyUI's folders."""
    try:
        path = folder_paths.get_annotated_filepath(name)
    except ValueError as error:
        raise _outside_input(name) from error
    return readable(Path(os.path.abspath(path)), name)


def readable(path: Path, name: str | None = None) -> Path:
    """The path itself, where it leads into ComfyUI's input, output or temp folder. DelitError where it does not."""
    folders = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
    )
    if not any(_leads_into(folder, path) for folder in folders):
        raise _outside_input(name or path.name)
    return path


def save_place(prefix: str, pictures: Tensor) -> tuple[str, str, str]:
    """Folder, file name and subfolder for a prefix; refused outside the output folder.

    Args:
        prefix: as the user gives it, with subfolders and tokens.
        pictures: what is to be saved, [B, H, W, C]: tokens may ask for its size.

    Raises:
        DelitError: for a prefix that leaves the output folder, by itself or by a link, and where no folder can be made.
    """
    output = folder_paths.get_output_directory()
    # Core makes the folder, so the link has to be seen before.
    if not _leads_into(output, Path(output, os.path.dirname(os.path.normpath(prefix)))):
        raise _outside_output(prefix)
    height, width = pictures.shape[1:3]
    try:
        folder, name, _, subfolder, _ = folder_paths.get_save_image_path(prefix, output, width, height)
    except OSError as error:
        raise DelitError(
            f"Cannot save to “{prefix}”: {error}. Check that the output folder can be written."
        ) from error
    except Exception as error:  # core raises a bare Exception for a prefix that leaves the output folder
        raise _outside_output(prefix) from error
    if not _leads_into(output, Path(folder)):
        raise _outside_output(prefix)
    return folder, name, subfolder


def _leads_into(folder: str, path: Path) -> bool:
    """Whether a path lies in a folder once all links are followed; the folder may itself be one."""
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):  # a loop of links; a name that no file can have
        return False


def _outside_input(name: str) -> DelitError:
    return DelitError(
        f"“{name}” lies outside ComfyUI's input folder, or is a link that leads out of it. Copy the file into it, or "
        "start ComfyUI with --input-directory for the folder where it is."
    )


def _outside_output(prefix: str) -> DelitError:
    return DelitError(
        f"The prefix “{prefix}” leaves ComfyUI's output folder, by itself or by a link. Give a name or a subfolder in "
        "it, without “..” and without a leading slash."
    )
