"""Videos to files: the flat-lit video with the sound and frame rate it had, and the light of the shot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from delit_models.color import tone_map
from delit_models.env_map_files import write_env_map
from delit_models.image_files import write_image
from delit_models.pipeline import DelitFrame, DelitOptions, DelitPipeline
from delit_models.video.files import VideoFile, write_video
from delit_models.video.light import ClipLight

from .jobs import Job
from .pictures import Results


def delit_video(
    pipe: DelitPipeline, job: Job, options: DelitOptions, results: Results, overwrite: bool
) -> None:
    """One video → `<name>_flat.mp4`, and the environment map of the shot, or with `env_pooling` "frame" those of its
    frames, `<name>_env.0001.exr` and so on. Where the flat-lit video and the first map are there already, nothing is
    done."""
    flat = results.output / f"{job.name}_flat.mp4"
    first_env = _env_file(job, results, options, 0)
    if flat.exists() and first_env.exists() and not overwrite:
        return
    video = VideoFile(job.files[0], job.files[0].name)
    light = ClipLight(options.env_pooling)
    frames = tqdm(
        pipe.stream(video.pictures(), options=options),
        total=video.frames or None,
        desc=video.name,
        unit="frame",
    )
    write_video(flat, _flat_frames(frames, light), video.rate, source=video)
    # The first map last: it says that all are there.
    for index, env in reversed(list(enumerate(light.pooled()))):
        write_env_map(_env_file(job, results, options, index), env, orientation=results.orientation)
        if options.env_pooling == "shot":
            write_image(results.output / f"{job.name}_env.png", tone_map(env))


def _env_file(job: Job, results: Results, options: DelitOptions, index: int) -> Path:
    number = f".{index + 1:04}" if options.env_pooling == "frame" else ""
    return results.output / f"{job.name}_env{number}.exr"


def _flat_frames(frames: Iterator[DelitFrame], light: ClipLight) -> Iterator[Tensor]:
    for frame in frames:
        light.add(frame.env.cpu(), frame.starts_shot)
        yield frame.flat.cpu()
