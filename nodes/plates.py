"""Plates in and out of a graph: EXR, TIFF and PNG frames at their full range, with what their files say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import folder_paths
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui
from torch import Tensor

from ..delit_models.coding import SRGB, Coding, open_source, to_rec709
from ..delit_models.color import linear_to_srgb, srgb_to_linear
from ..delit_models.errors import DelitError
from ..delit_models.free_names import free_version
from ..delit_models.images import MIN_SIDE
from ..delit_models.plate_files import (
    PlateHeader,
    find_plates,
    frames_of,
    numbered_name,
    read_plate,
    write_plate,
)
from .delit_model import DelitModel
from .env_maps import header_strings
from .folders import input_file, readable, save_place
from .interrupting import interruptible
from .schema import DelitModelType, schema

PlateInfoType = io.Custom("DELIT_PLATE_INFO")
# Format on the node → suffix and pixel type.
FORMATS = {
    "exr half": (".exr", "half"),
    "exr float": (".exr", "float"),
    "tiff 16 bit": (".tif", "uint16"),
    "png 16 bit": (".png", "uint16"),
}
UNKNOWN_CODING = "unknown primaries"


@dataclass(frozen=True)
class PlateInfo:
    """What travels on a DELIT_PLATE_INFO wire: the headers of a batch's frames, in order."""

    headers: tuple[PlateHeader, ...]


class DelitLoadPlate(io.ComfyNode):
    """A frame or a numbered sequence of the input folder → plates."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitLoadPlate",
            display_name="Load Plate (Delit)",
            description=(
                "Loads a plate, one frame or a numbered sequence of EXR, TIFF or PNG, from the input folder: nothing "
                "is clamped or converted, and frame numbers, alpha, data window and header go on to “Save Plate "
                "(Delit)”."
            ),
            search_aliases=["load exr", "load exr sequence", "load tiff", "read plate", "hdr image"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=find_plates(Path(folder_paths.get_input_directory())),
                    tooltip=(
                        "An EXR, TIFF or PNG in ComfyUI's input folder or below; a numbered sequence shows as one "
                        "entry, with # for the digits of the frame's number."
                    ),
                ),
                io.Int.Input(
                    "first_frame",
                    default=0,
                    min=0,
                    max=9_999_999,
                    tooltip="Of a sequence, the number of the frame to begin with; 0 is the first that is there.",
                ),
                io.Int.Input(
                    "frames",
                    default=0,
                    min=0,
                    max=100_000,
                    tooltip="Of a sequence, how many frames at most; 0 is all. 40 frames of 1080p take 1 GB.",
                ),
            ],
            outputs=[
                io.Image.Output("plate", tooltip="The frames as stored: of any range from float files."),
                io.Mask.Output(
                    "alpha", tooltip="Their alpha, 1 where they are opaque; 1 everywhere without one."
                ),
                PlateInfoType.Output(
                    "plate_info", tooltip="Frame numbers, data windows and headers, for “Save Plate (Delit)”."
                ),
                io.String.Output(
                    "coding",
                    tooltip="The coding that the first file names: what “coding” of other nodes is to be.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        # Having this method with `file` lets a file pass that came after the server listed the folder.
        try:
            return bool(_frames(file))
        except DelitError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, file: str, first_frame: int, frames: int) -> str:
        states = (path.stat() for path in _frames(file, first_frame, frames))
        return str([(state.st_size, state.st_mtime_ns) for state in states])

    @classmethod
    @interruptible
    def execute(cls, file: str, first_frame: int, frames: int) -> io.NodeOutput:
        paths = _frames(file, first_frame, frames)
        bar = ProgressBar(len(paths))
        plates = []
        for path in paths:
            throw_exception_if_processing_interrupted()
            plates.append(read_plate(path))
            bar.update(1)
            if plates[-1].pixels.shape != plates[0].pixels.shape:
                (height, width), (first_height, first_width) = (
                    p.pixels.shape[:2] for p in (plates[-1], plates[0])
                )
                raise DelitError(
                    f"{path.name} is {width}×{height} pixels, {paths[0].name} {first_width}×{first_height}. The frames "
                    "of a sequence have one size: load the parts one by one with first_frame and frames."
                )
        pixels = torch.stack([plate.pixels for plate in plates])
        alpha = torch.stack([torch.ones(p.pixels.shape[:2]) if p.alpha is None else p.alpha for p in plates])
        coding = plates[0].coding
        return io.NodeOutput(
            pixels,
            alpha,
            PlateInfo(tuple(plate.header for plate in plates)),
            coding or UNKNOWN_CODING,
            ui=ui.PreviewImage(_display(pixels[:1], coding or "linear Rec.709"), cls=cls),
        )


class DelitSavePlate(io.ComfyNode):
    """Plates → numbered files in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitSavePlate",
            display_name="Save Plate (Delit)",
            description=(
                "Saves images as EXR (half or float), 16-bit TIFF or 16-bit PNG under their frame numbers, with alpha, "
                "data window and header of the plate that they were made from. EXR clips nothing. Every run makes a "
                "new version; nothing is overwritten."
            ),
            search_aliases=["save exr", "save exr sequence", "save tiff", "write plate"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The frames: a flat-lit image, a gain, or any other."),
                io.String.Input(
                    "filename_prefix",
                    default="delit/flat",
                    tooltip=(
                        "Name in the output folder, with subfolders if you like: of “flat” comes flat_v001.1001.exr."
                    ),
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="exr half",
                    tooltip=(
                        "exr half, exr float: linear, with values over 1. tiff 16 bit, png 16 bit: sRGB-coded; what "
                        "does not fit into [0, 1] is refused."
                    ),
                ),
                io.Combo.Input(
                    "coding",
                    options=list(get_args(Coding)),
                    default=SRGB,
                    tooltip=(
                        "How the images are coded: as “coding” of the node that made them, sRGB, linear Rec.709 or "
                        "ACEScg; a gain is linear, as the plate. An EXR is written in linear light and these "
                        "primaries, TIFF and PNG as sRGB."
                    ),
                ),
                PlateInfoType.Input(
                    "plate_info",
                    optional=True,
                    tooltip="From “Load Plate (Delit)”: frame numbers, data windows and headers are kept.",
                ),
                io.Mask.Input("alpha", optional=True, tooltip="Written as alpha, as it is: 1 is opaque."),
                DelitModelType.Input(
                    "delit_model",
                    optional=True,
                    tooltip="The heads that made the images: their hash is then written into an EXR's header.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    @interruptible
    def execute(
        cls,
        images: Tensor,
        filename_prefix: str,
        format: str,
        coding: Coding,
        plate_info: PlateInfo | None = None,
        alpha: Tensor | None = None,
        delit_model: DelitModel | None = None,
    ) -> io.NodeOutput:
        suffix, pixel_type = FORMATS[format]
        rgb, alpha = _split_alpha(images, alpha)
        pixels, written_coding = _as_written(rgb, coding, linear=suffix == ".exr")
        headers = _headers(plate_info, len(pixels))
        folder, name, subfolder = save_place(filename_prefix, images)
        version = free_version(Path(folder), name)
        extra = header_strings(cls.hidden, delit_model) if suffix == ".exr" else {}
        bar = ProgressBar(len(pixels))
        saved = []
        for index, header in enumerate(headers):
            throw_exception_if_processing_interrupted()
            single = header.frame is None and len(headers) == 1
            frame = index + 1 if header.frame is None else header.frame
            file = f"{name}_v{version:03}{suffix}" if single else numbered_name(name, version, frame, suffix)
            write_plate(
                os.path.join(folder, file),
                pixels[index],
                alpha=None if alpha is None else alpha[index],
                pixel_type=pixel_type,
                coding=written_coding,
                header=header,
                extra=extra,
                overwrite=False,
            )
            saved.append(ui.SavedResult(file, subfolder, io.FolderType.output))
            bar.update(1)
        shown = ui.PreviewImage(_display(rgb[:1], coding), cls=cls).as_dict()
        return io.NodeOutput(ui={**shown, "plate_files": saved})


def _frames(name: str, first: int = 0, count: int = 0) -> list[Path]:
    """The files of a plate in ComfyUI's folders (plate_files.frames_of); none is a link that leads out of them."""
    return [readable(path) for path in frames_of(input_file(name), first, count)]


def _display(pixels: Tensor, coding: Coding) -> Tensor:
    """Plates [B, H, W, 3] of any size as pictures to look at."""
    # What is too small to be delit is not too small to be looked at.
    if coding == SRGB or min(pixels.shape[1:3]) < MIN_SIDE:
        return pixels.clamp(0, 1)
    return open_source(pixels, coding).display


def _as_written(pixels: Tensor, coding: Coding, linear: bool) -> tuple[Tensor, Coding]:
    """Pixels for a file in linear light, or sRGB-coded; and their coding then."""
    if linear:
        return (srgb_to_linear(pixels), "linear Rec.709") if coding == SRGB else (pixels, coding)
    return (pixels if coding == SRGB else linear_to_srgb(to_rec709(pixels, coding))), SRGB


def _split_alpha(images: Tensor, alpha: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """RGB, and alpha [B, H, W]: the one that is connected, else the images' own fourth channel."""
    if images.shape[-1] == 4:
        alpha = images[..., 3] if alpha is None else alpha
        images = images[..., :3]
    elif images.shape[-1] == 1:
        images = images.expand(*images.shape[:3], 3)
    if alpha is not None:
        alpha = alpha[None] if alpha.ndim == 2 else alpha
        if len(alpha) not in (1, len(images)):
            raise DelitError(
                f"There are {len(images)} images but {len(alpha)} alphas; give one, or one for each."
            )
        alpha = alpha.expand(len(images), -1, -1)
    return images, alpha


def _headers(info: PlateInfo | None, count: int) -> tuple[PlateHeader, ...]:
    if info is None:
        return (PlateHeader(),) * count
    if len(info.headers) != count:
        raise DelitError(
            f"There are {count} images, but plate_info is of {len(info.headers)} frames. Connect the plate_info of the "
            "plate that the images were made from."
        )
    return info.headers
