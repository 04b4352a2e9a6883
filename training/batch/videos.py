"""Videos to files: the flat-lit video with the sound and frame rate it had, and the light of the shot."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import torch
from torch import Tensor
from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.color import tone_map
from delit_models.env_map_files import write_env_map
from delit_models.errors import DelitError
from delit_models.image_files import write_image
from delit_models.pipeline import DelitOptions, DelitPipeline

from .jobs import Job
from .pictures import Results

# Maps of a long shot that its median is taken over; more would not change it.
MAPS_OF_A_SHOT = 200


def delit_video(
    pipe: DelitPipeline, job: Job, options: DelitOptions, results: Results, overwrite: bool
) -> None:
    """One video → `<name>_flat.mp4`, and the environment map of the shot (the median over its frames)."""
    file = job.files[0]
    flat = results.output / f"{job.name}_flat.mp4"
    env = results.output / f"{job.name}_env.exr"
    if flat.exists() and env.exists() and not overwrite:
        return
    maps: list[Tensor] = []
    with _opened(file) as container, atomic_write(flat) as temporary:
        stream = container.streams.video[0]
        frames = (
            torch.from_numpy(frame.to_ndarray(format="rgb24")).float() / 255
            for frame in container.decode(stream)
        )
        done = tqdm(pipe.stream(frames, options), total=stream.frames or None, desc=file.name, unit="frame")
        _write_video(temporary, _keep_maps(done, maps), stream.average_rate or Fraction(24), file)
    shot = torch.stack(maps).median(dim=0).values
    write_env_map(env, shot, orientation=results.orientation)
    write_image(results.output / f"{job.name}_env.png", tone_map(shot))


def _opened(file: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(file))
    except (av.FFmpegError, OSError) as error:
        raise DelitError(
            f"{file} cannot be read as a video: {error}. Export it again, as MP4 for instance."
        ) from error
    if not container.streams.video:
        container.close()
        raise DelitError(f"{file} holds no picture, only sound. Give a video.")
    return container


def _keep_maps(results: Iterator[tuple[Tensor, Tensor]], maps: list[Tensor]) -> Iterator[Tensor]:
    """Pass the frames on and keep evenly spaced maps: when there are too many, every other one goes."""
    stride = 1
    for number, (flat, env) in enumerate(results):
        if number % stride == 0:
            maps.append(env.cpu())
            if len(maps) > MAPS_OF_A_SHOT:
                maps[:] = list(islice(maps, 0, None, 2))
                stride *= 2
        yield flat.cpu()


def _write_video(path: Path, frames: Iterator[Tensor], rate: Fraction, source: Path) -> None:
    """Frames [H, W, 3] as H.264, with the sound of `source` as it is."""
    with av.open(str(path), "w", format="mp4") as container, av.open(str(source)) as sounding:
        video = container.add_stream("libx264", rate=rate, options={"crf": "16"})
        video.pix_fmt = "yuv420p"
        sound = _sound_stream(container, sounding)
        for index, frame in enumerate(frames):
            even = _repeat_to_even(frame[..., :3])
            if index == 0:
                video.height, video.width = even.shape[:2]
            pixels = (even * 255).round().to(torch.uint8).contiguous().numpy()
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
        if sound is not None:
            _copy_sound(container, sounding, sound)


def _sound_stream(container: av.container.OutputContainer, sounding: av.container.InputContainer):
    """A stream for the source's first sound, packet for packet; None where it has none that an MP4 can hold."""
    if not sounding.streams.audio:
        return None
    try:
        return container.add_stream_from_template(sounding.streams.audio[0])
    except (ValueError, av.FFmpegError):
        tqdm.write("The sound's codec does not go into an MP4: the result has no sound.")
        return None


def _copy_sound(
    container: av.container.OutputContainer, sounding: av.container.InputContainer, sound
) -> None:
    for packet in sounding.demux(sounding.streams.audio[0]):
        if packet.dts is not None:
            packet.stream = sound
            container.mux(packet)


def _repeat_to_even(frame: Tensor) -> Tensor:
    """H.264 in 4:2:0 takes even sides only: an odd one repeats its last row or column."""
    height, width = frame.shape[:2]
    rows = torch.arange(height + height % 2).clamp(max=height - 1)
    columns = torch.arange(width + width % 2).clamp(max=width - 1)
    return frame[rows][:, columns]
