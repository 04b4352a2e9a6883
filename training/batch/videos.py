"""Videos to files: the flat-lit video with the sound and frame rate it had, and the light of the shot."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from tqdm import tqdm

from delit_models.coding import SRGB
from delit_models.errors import DelitError
from delit_models.pipeline import DelitFrame, DelitOptions, DelitPipeline
from delit_models.video.files import VideoFile, write_video
from delit_models.video.light import ClipLight

from .jobs import Job
from .places import fetched, stored
from .results import Results, write_light


def check_video(job: Job, options: DelitOptions, results: Results) -> None:
    """Refuse what cannot be had of a video.

    Raises:
        DelitError: see the messages.
    """
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


def delit_video(pipe: DelitPipeline, job: Job, options: DelitOptions, results: Results) -> None:
    """One video → `<name>_flat.mp4`, and the environment map of the shot, or with `env_pooling` "frame" those of its
    frames, `<name>_env.0001.exr` and so on."""
    light = ClipLight(options.env_pooling)
    flat_file, _ = results.files(job, options)
    with fetched(job.files[0]) as source:
        video = VideoFile(source, source.name)
        frames = tqdm(
            pipe.stream(video.pictures(), options=options),
            total=video.frames or None,
            desc=video.name,
            unit="frame",
        )
        with stored(flat_file) as path:
            write_video(path, _flat_frames(frames, light), video.rate, source=video)
    # The first map last: it says that all are there.
    for index, env in reversed(list(enumerate(light.pooled()))):
        number = None if options.env_pooling == "shot" else index + 1
        files = results.light_files(job, number)
        if number is not None:
            del files["preview"]
        write_light(files, env, results)


def _flat_frames(frames: Iterator[DelitFrame], light: ClipLight) -> Iterator[Tensor]:
    for frame in frames:
        light.add(frame.env.cpu(), frame.starts_shot)
        yield frame.flat.cpu()
