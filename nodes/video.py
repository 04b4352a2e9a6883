"""Delit for videos: read, delit and written frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import uuid4

import folder_paths
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..delit_models.memory import gives_back_memory
from ..delit_models.pipeline import DelitFrame, DelitOptions
from ..delit_models.video.files import VideoFile, write_video
from ..delit_models.video.light import ClipLight
from ..delit_models.video.sound import Sound, encoded_sound
from .delit_model import DelitModel, pipeline_of
from .env_maps import preview
from .interrupting import interruptible
from .schema import (
    area_input,
    delit_model_input,
    detail_transfer_input,
    env_pooling_input,
    env_preview_output,
    mask_input,
    schema,
    vae_input,
    working_size_input,
)


@dataclass(frozen=True)
class OpenedVideo:
    """What a VIDEO is made of.

    Attributes:
        pictures: its frames [H, W, 3 or more], one by one. frames: about how many; 0 where nothing says.
        rate: frames a second.
        source: the file that they are read from. sound: makes the sound, where there is no file.
    """

    pictures: Iterator[Tensor]
    frames: int
    rate: Fraction
    source: VideoFile | None = None
    sound: Callable[[Any], Sound] | None = None


class DelitVideo(io.ComfyNode):
    """A video → the flat-lit video and its light."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitVideo",
            display_name="Delit Video",
            description=(
                "Takes the light off a video, steadily: out come the flat-lit video, with the sound and frame rate it "
                "had, and the light of the shot as an HDR environment map. Reads and writes frame by frame, so that "
                "any length fits into memory."
            ),
            search_aliases=["delight video", "remove shadows", "flat light", "relight video", "deflicker"],
            inputs=[
                io.Video.Input(
                    "video",
                    tooltip="One shot, of any length; from “Load Video”. Cuts are found and respected.",
                ),
                mask_input(),
                vae_input(),
                delit_model_input(),
                working_size_input(),
                detail_transfer_input(),
                io.Combo.Input(
                    "outside",
                    options=["source", "black"],
                    default="source",
                    tooltip="What lies outside the mask or the subject: the source as it was, or black.",
                ),
                env_pooling_input(),
                area_input(),
            ],
            outputs=[
                io.Video.Output(
                    "flat",
                    tooltip="The flat-lit video, H.264, for “Save Video”; with the sound and frame rate of the source.",
                ),
                io.Image.Output(
                    "env",
                    tooltip=(
                        "The environment map, 256×128, in linear light with values over 1: for “Save Environment Map "
                        "(Delit)” and HDR nodes. One for the shot, or one a frame, as “env_pooling” says."
                    ),
                ),
                env_preview_output(),
            ],
        )

    @classmethod
    @gives_back_memory
    @interruptible
    def execute(
        cls,
        video: Any,
        working_size: int,
        detail_transfer: bool,
        outside: str,
        env_pooling: str,
        area: str = "subject",
        mask: Tensor | None = None,
        vae: object | None = None,
        delit_model: DelitModel | None = None,
    ) -> io.NodeOutput:
        pipeline = pipeline_of(vae, delit_model)
        options = DelitOptions(working_size, detail_transfer, area, outside)
        opened = open_video(video)
        light = ClipLight(env_pooling)
        frames = _watched(pipeline.stream(opened.pictures, mask, options), opened.frames)
        path = Path(folder_paths.get_temp_directory()) / f"delit_video_{uuid4().hex[:12]}.mp4"
        write_video(
            path,
            (_kept(frame, light) for frame in frames),
            opened.rate,
            source=opened.source,
            sound=opened.sound,
        )
        env = light.pooled()
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), env, preview(env))


def open_video(video: Any) -> OpenedVideo:
    """A VIDEO, to be read frame by frame: from its file, or from memory where it was made of images."""
    if isinstance(video, InputImpl.VideoFromFile):
        source = video.get_stream_source()
        name = Path(source).name if isinstance(source, str) else "The video"
        file = VideoFile(source, name, *_trim(video))
        return OpenedVideo(file.pictures(), file.frames, file.rate, source=file)
    parts = video.get_components()
    sound = None
    if parts.audio is not None:
        waveform = parts.audio["waveform"][0]
        rate = int(parts.audio["sample_rate"])

        def sound(container: Any) -> Sound:
            return encoded_sound(container, waveform, rate)

    return OpenedVideo(iter(parts.images), len(parts.images), Fraction(parts.frame_rate), sound=sound)


def _trim(video: Any) -> tuple[float, float]:
    """Start and duration in seconds of the part that “Trim Video” left; newer ComfyUI than 0.8.0 trims by a note."""
    if hasattr(video, "get_active_trim_window"):
        return video.get_active_trim_window()
    # Versions between have the note and no way to ask for it.
    start = getattr(video, "_VideoFromFile__start_time", 0) or 0
    if start < 0:
        raise ValueError("A trim that counts from the video's end needs a newer ComfyUI.")
    return float(start), float(getattr(video, "_VideoFromFile__duration", 0) or 0)


def _watched(frames: Iterator[DelitFrame], total: int) -> Iterator[DelitFrame]:
    """The frames, with the node's bar; between two the user can stop the run."""
    bar = ProgressBar(max(total, 1))
    for number, frame in enumerate(frames):
        yield frame
        bar.update_absolute(min(number + 1, max(total, 1)))
        throw_exception_if_processing_interrupted()


def _kept(frame: DelitFrame, light: ClipLight) -> torch.Tensor:
    light.add(frame.env, frame.starts_shot)
    return frame.flat
