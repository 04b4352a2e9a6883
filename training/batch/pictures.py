"""Pictures, plates and sequences to files: the flat-lit picture, its light, and on request the gain and the matte."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from delit_models.coding import SRGB, Coding, plate_exposure, to_rec709
from delit_models.errors import DelitError
from delit_models.image_files import read_image
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.plate_files import PlateHeader, frame_number, read_plate
from delit_models.video.light import ClipLight

from .jobs import Job
from .places import fetched, state_of
from .results import FlatLit, Opened, Results, write_compare, write_light, write_pictures


def check_plate(job: Job, options: DelitOptions) -> None:
    """Refuse linear light that is not called so.

    Raises:
        DelitError: says how to call it.
    """
    if job.is_plate and options.coding == SRGB:
        with fetched(job.files[0]) as path:
            if read_plate(path).coding != SRGB:
                raise DelitError(
                    f"{path.name} holds linear light. Say in which primaries: --coding “linear Rec.709” or “ACEScg”."
                )


def delit_picture(pipe: DelitPipeline, job: Job, options: DelitOptions, results: Results) -> None:
    """Delit a picture, or one frame of a sequence that is no clip."""
    if job.metered_on is not None and options.coding != SRGB:
        # One exposure for the shot: its frames must not flicker.
        metered = _exposure_of(job.metered_on, state_of(job.metered_on), options.coding)
        options = replace(options, metered=metered)
    opened = _read(job.files[0], options)
    mask = _read_mask(job.masks[0])[None] if job.masks else None
    result = pipe(opened.pixels[None], mask, options)
    flat, env = result.flat[0], result.env[0]
    frame = frame_number(job.files[0]) if job.numbered else None
    files = results.picture_files(job, frame, options)
    write_pictures(files, opened, FlatLit(flat, result.gain[0], result.matte[0]), options, results)
    if frame is None:
        write_compare(results.compare_file(job), opened, flat, env, options)
    write_light(results.light_files(job, frame), env, results)


def delit_sequence(pipe: DelitPipeline, job: Job, options: DelitOptions, results: Results) -> None:
    """Delit the frames of a sequence as a clip: steadied in time, with the light of the shot in one map, or with
    `env_pooling` "frame" in one a frame. Frames are read and written one by one, however many they are; the light comes
    last and says that all are there."""
    under_way: deque[tuple[int, Opened]] = deque()

    def pictures() -> Iterator[Tensor]:
        for file in job.files:
            under_way.append((frame_number(file), _read(file, options)))
            yield under_way[-1][1].pixels

    light = ClipLight(options.env_pooling)
    frames = pipe.stream(pictures(), _Masks(job.masks) if job.masks else None, options)
    for frame in tqdm(frames, total=len(job.files), desc=job.name, unit="frame", leave=False):
        number, opened = under_way.popleft()
        files = results.picture_files(job, number, options)
        write_pictures(files, opened, FlatLit(frame.flat, frame.gain, frame.matte), options, results)
        light.add(frame.env.cpu(), frame.starts_shot)
    maps = light.pooled()
    numbers = [None] if options.env_pooling == "shot" else [frame_number(file) for file in job.files]
    for number, env in zip(reversed(numbers), maps.flip(0), strict=True):
        write_light(results.light_files(job, number), env, results)


class _Masks(Sequence[Tensor]):
    """The masks of a clip's frames [h, w], each read when it is asked for."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return _read_mask(self.files[index])


@lru_cache(maxsize=16)
def _exposure_of(file: Path, _state: str, coding: Coding) -> float:
    """A plate's exposure, kept for the other frames of its sequence for as long as its state is the same."""
    with fetched(file) as path:
        return plate_exposure(to_rec709(read_plate(path).pixels[None], coding))


def _read(file: Path, options: DelitOptions) -> Opened:
    with fetched(file) as path:
        if options.coding == SRGB:
            return Opened(read_image(path), None, PlateHeader())
        plate = read_plate(path)
        return Opened(plate.pixels, plate.alpha, plate.header)


def _read_mask(file: Path) -> Tensor:
    """A mask picture → [H, W]: its alpha if it has one, else its brightness."""
    with fetched(file) as path:
        picture = read_image(path)
    return picture[..., 3] if picture.shape[-1] == 4 else picture.mean(dim=-1)
