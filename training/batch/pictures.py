"""Pictures and plates to files: the flat-lit picture, its light, and on request the gain and the matte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from delit_models.coding import SRGB, open_source, plate_exposure, to_rec709
from delit_models.color import linear_to_srgb, srgb_to_linear, tone_map
from delit_models.env_map_files import write_env_map
from delit_models.errors import DelitError
from delit_models.image_files import read_image, write_image
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.plate_files import PlateHeader, frame_number, read_plate, write_plate
from delit_models.video.files import VideoFile
from training.data.tiles import to_height

from .jobs import Job

DEPTHS = ("8", "16", "half", "float")


@dataclass(frozen=True)
class Results:
    """What is written.

    Attributes:
        output: the folder.
        depth: of the flat-lit picture: "8" or "16" bits for PNG, "half" or "float" for EXR; None chooses 8 bits for
            sRGB-coded pictures, half for plates.
        gain, matte: whether those are written too.
        orientation: of the environment map.
    """

    output: Path
    depth: str | None = None
    gain: bool = False
    matte: bool = False
    orientation: str = "delit"

    def flat_suffix(self, plates: bool) -> str:
        return ".exr" if (self.depth or ("half" if plates else "8")) in ("half", "float") else ".png"

    def files(self, job: Job, frame: int | None, options: DelitOptions) -> dict[str, Path]:
        """Every file that a frame of a job leaves, by kind."""
        plates = options.coding != SRGB
        kinds = {"flat": self.flat_suffix(plates), "env": ".exr", "preview": ".png"}
        if frame is None:
            kinds["compare"] = ".png"
        if self.gain:
            kinds["gain"] = ".exr"
        if self.matte:
            kinds["matte"] = ".png"
        stems = {"preview": "env"}
        number = "" if frame is None else f".{frame:04}"
        return {
            kind: self.output / f"{job.name}_{stems.get(kind, kind)}{number}{suffix}"
            for kind, suffix in kinds.items()
        }


def check_options(job: Job, options: DelitOptions, results: Results) -> None:
    """Refuse what cannot go together, before any work.

    Raises:
        DelitError: see the messages.
    """
    if job.is_video:
        unused = [name for name, used in (("--gain", results.gain), ("--matte", results.matte)) if used]
        unused += ["--outside transparent"] if options.outside == "transparent" else []
        unused += ["--bit_depth"] if results.depth not in (None, "8") else []
        if unused:
            raise DelitError(
                f"{job.files[0].name}: {', '.join(unused)} cannot be had of a video. Export it as frames "
                "(name.####.exr or .png) and delit those."
            )
        if options.coding != SRGB:
            raise DelitError(f"{job.files[0].name}: videos are sRGB-coded; leave --coding out.")
        # Opened once, so that one that cannot be read is refused now.
        VideoFile(job.files[0], job.files[0].name)
    elif job.is_plate and options.coding == SRGB and read_plate(job.files[0]).coding != SRGB:
        raise DelitError(
            f"{job.files[0].name} holds linear light. Say in which primaries: --coding “linear Rec.709” or “ACEScg”."
        )


def delit_frames(
    pipe: DelitPipeline, job: Job, options: DelitOptions, results: Results, overwrite: bool
) -> Iterator[Path]:
    """Delit the frames of a job that are not done yet, one by one; yields each file that was looked at."""
    mask = None if job.mask is None else _read_mask(job.mask)
    if job.numbered and options.coding != SRGB:
        # One exposure for the shot: its frames must not flicker.
        first = read_plate(job.files[0]).pixels[None]
        options = replace(options, metered=plate_exposure(to_rec709(first, options.coding)))
    for file in job.files:
        frame = frame_number(file) if job.numbered else None
        files = results.files(job, frame, options)
        if overwrite or not all(path.exists() for path in files.values()):
            _delit_frame(pipe, file, files, options, results, mask)
        yield file


def _delit_frame(
    pipe: DelitPipeline,
    file: Path,
    files: dict[str, Path],
    options: DelitOptions,
    results: Results,
    mask: Tensor | None,
) -> None:
    pixels, alpha, header = _read(file, options)
    result = pipe(pixels[None], mask, options)
    flat, env = result.flat[0].cpu(), result.env[0].cpu()
    if flat.shape[-1] == 4:
        flat, alpha = flat[..., :3], flat[..., 3]
    preview = tone_map(env)
    writers: dict[str, Callable[[Path], None]] = {
        "flat": lambda path: _write_flat(path, flat, alpha, header, options, results),
        "env": lambda path: write_env_map(path, env, orientation=results.orientation),
        "preview": lambda path: write_image(path, preview),
        "gain": lambda path: write_plate(path, result.gain[0].cpu(), header=header),
        "matte": lambda path: write_image(path, result.matte[0, ..., None].cpu(), bit_depth=16),
        "compare": lambda path: write_image(
            path, side_by_side(_display(pixels, options), _display(flat, options), preview)
        ),
    }
    for kind, path in files.items():
        writers[kind](path)


def _read(file: Path, options: DelitOptions) -> tuple[Tensor, Tensor | None, PlateHeader]:
    """Pixels [H, W, C], alpha and header of a frame."""
    if options.coding == SRGB:
        return read_image(file), None, PlateHeader()
    plate = read_plate(file)
    return plate.pixels, plate.alpha, plate.header


def _write_flat(
    path: Path,
    flat: Tensor,
    alpha: Tensor | None,
    header: PlateHeader,
    options: DelitOptions,
    results: Results,
) -> None:
    if path.suffix == ".exr":
        linear = srgb_to_linear(flat) if options.coding == SRGB else flat
        coding = "linear Rec.709" if options.coding == SRGB else options.coding
        depth = results.depth or "half"
        write_plate(path, linear, alpha=alpha, pixel_type=depth, coding=coding, header=header)
        return
    coded = flat if options.coding == SRGB else linear_to_srgb(to_rec709(flat, options.coding))
    picture = coded if alpha is None else torch.cat([coded, alpha[..., None]], dim=-1)
    write_image(path, picture, bit_depth=int(results.depth or 8))


def _display(pixels: Tensor, options: DelitOptions) -> Tensor:
    """[H, W, C] as a picture to look at; source and result of a plate at one exposure."""
    if options.coding == SRGB:
        return pixels
    metered = None if options.metered is None else torch.tensor([options.metered])
    return open_source(pixels[None], options.coding, options.exposure, metered=metered).display[0]


def side_by_side(picture: Tensor, flat: Tensor, preview: Tensor) -> Tensor:
    """Source, flat-lit and light [H, W, C] in one row, at the source's height; [H, W', 3]."""
    height = picture.shape[0]
    columns = (
        x.expand(*x.shape[:2], 3) if x.shape[-1] == 1 else x[..., :3] for x in (picture, flat, preview)
    )
    return torch.cat([to_height(column, height) for column in columns], dim=1)


def _read_mask(path: Path) -> Tensor:
    """A mask picture → [1, H, W]: its alpha if it has one, else its brightness."""
    picture = read_image(path)
    return (picture[..., 3] if picture.shape[-1] == 4 else picture.mean(dim=-1))[None]
