"""What a job leaves: which files, under which names, and how each is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from delit_models.coding import SRGB, open_source, to_rec709
from delit_models.color import linear_to_srgb, srgb_to_linear, tone_map
from delit_models.env_map_files import write_env_map
from delit_models.image_files import write_image
from delit_models.pipeline import DelitOptions
from delit_models.plate_files import PlateHeader, frame_number, write_plate
from training.data.tiles import to_height

from .jobs import Job
from .places import stored

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

    def picture_files(self, job: Job, frame: int | None, options: DelitOptions) -> dict[str, Path]:
        """Where a picture or a frame goes, by kind, without its light."""
        kinds = {"flat": self.flat_suffix(options.coding != SRGB)}
        if self.gain:
            kinds["gain"] = ".exr"
        if self.matte:
            kinds["matte"] = ".png"
        return {kind: self._file(job, kind, frame, suffix) for kind, suffix in kinds.items()}

    def light_files(self, job: Job, frame: int | None) -> dict[str, Path]:
        """Where the light goes, of a frame or (None) of all of a job: the map, and a picture of it."""
        return {
            "env": self._file(job, "env", frame, ".exr"),
            "preview": self._file(job, "env", frame, ".png"),
        }

    def compare_file(self, job: Job) -> Path:
        """Where before and after go, of a picture."""
        return self._file(job, "compare", None, ".png")

    def files(self, job: Job, options: DelitOptions) -> list[Path]:
        """Every file by which a job is known to be done."""
        if job.is_video:
            frame = 1 if options.env_pooling == "frame" else None
            return [self._file(job, "flat", None, ".mp4"), self.light_files(job, frame)["env"]]
        numbers = [frame_number(file) if job.numbered else None for file in job.files]
        pooled = job.clip and options.env_pooling == "shot"
        files = [path for n in numbers for path in self.picture_files(job, n, options).values()]
        files += [path for n in ([None] if pooled else numbers) for path in self.light_files(job, n).values()]
        return files if job.numbered else [*files, self.compare_file(job)]

    def _file(self, job: Job, kind: str, frame: int | None, suffix: str) -> Path:
        number = "" if frame is None else f".{frame:04}"
        return self.output / f"{job.name}_{kind}{number}{suffix}"


@dataclass(frozen=True)
class Opened:
    """A picture or frame as it was read: pixels [H, W, C], alpha [H, W] or None, and what its file says besides."""

    pixels: Tensor
    alpha: Tensor | None
    header: PlateHeader


@dataclass(frozen=True)
class FlatLit:
    """What is written of a picture or frame: flat [H, W, 3 or 4], gain [H, W, 3], matte [H, W]; see DelitResult."""

    flat: Tensor
    gain: Tensor
    matte: Tensor


def write_pictures(
    files: dict[str, Path], opened: Opened, result: FlatLit, options: DelitOptions, results: Results
) -> None:
    """Write those of `Results.picture_files`."""
    flat, alpha = result.flat.cpu(), opened.alpha
    if flat.shape[-1] == 4:
        flat, alpha = flat[..., :3], flat[..., 3]
    with stored(files["flat"]) as path:
        _write_flat(path, flat, alpha, opened.header, options, results)
    if "gain" in files:
        with stored(files["gain"]) as path:
            write_plate(path, result.gain.cpu(), header=opened.header)
    if "matte" in files:
        with stored(files["matte"]) as path:
            write_image(path, result.matte[..., None].cpu(), bit_depth=16)


def write_light(files: dict[str, Path], env: Tensor, results: Results) -> None:
    """Write those of `Results.light_files`, of a map [128, 256, 3]; the map itself last."""
    if "preview" in files:
        with stored(files["preview"]) as path:
            write_image(path, tone_map(env.cpu()))
    with stored(files["env"]) as path:
        write_env_map(path, env.cpu(), orientation=results.orientation)


def write_compare(file: Path, opened: Opened, flat: Tensor, env: Tensor, options: DelitOptions) -> None:
    """Write before and after in one picture, with the light beside them."""
    with stored(file) as path:
        shown = (_display(opened.pixels, options), _display(flat.cpu(), options), tone_map(env.cpu()))
        write_image(path, side_by_side(*shown))


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
