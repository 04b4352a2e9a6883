"""Video files, read and written frame by frame, with PyAV.

What is written is H.264 in an MP4, with the times, colour matrix and sound of what was read, so that a picture that
nothing changed comes back as it was, but for compression.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
import torch
from torch import Tensor

from ..atomic_write import atomic_write
from ..errors import DelitError
from .sound import Sound, copied_sound

logger = logging.getLogger(__name__)

DEFAULT_RATE = Fraction(24)
# x264's constant rate factor: smaller is better and larger; 14 is hard to tell from the source.
RATE_FACTOR = "14"
# Transfer curves of HDR video (ITU-T H.273): PQ and HLG.
HDR_CURVES = {16: "PQ", 18: "HLG"}
# H.273's matrix "unspecified", and that of RGB; and the sRGB-like curve and limited range of ordinary video.
UNSPECIFIED, RGB_MATRIX = 2, 0
LIMITED_RANGE = 1
# The kinds of file that are read, by FFmpeg's names. FFmpeg tells them by content, whatever the file is called, and
# knows playlists too (concat, HLS, DASH, SDP): text that names other files and addresses, which it would then open.
CONTAINERS = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "av1", "obu", "ivf", "mxf", "ogg",
    "flv", "asf", "dv", "nut", "gif", "apng", "yuv4mpegpipe", "mjpeg", "rm", "wtv", "gxf",
)  # fmt: skip


@dataclass(frozen=True)
class Colours:
    """How a stream says that its colours are coded: numbers of ITU-T H.273."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    curve: int = UNSPECIFIED


class VideoFile:
    """A video, or a stretch of one, to be read frame by frame.

    Args:
        source: path, or a file in memory. name: what to call it in a message.
        start: seconds into it to begin at. duration: seconds to read; 0 is to its end.

    Raises:
        DelitError: if it cannot be read as a video, holds no picture, or is HDR.
    """

    def __init__(
        self, source: str | Path | IO[bytes], name: str, start: float = 0.0, duration: float = 0.0
    ) -> None:
        self.source, self.name = source, name
        self.start, self.duration = start, duration
        with self.opened() as container:
            stream = container.streams.video[0]
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
            self.time_base = stream.time_base
            context = stream.codec_context
            if context is None:
                raise DelitError(
                    f"{name} holds pictures of a kind that cannot be decoded. Export it again, as H.264 for instance."
                )
            self.colours = Colours(
                int(context.colorspace), int(context.color_primaries), int(context.color_trc)
            )
            self._stored_frames = stream.frames
            self._seconds = container.duration / av.time_base if container.duration else 0.0
        if self.colours.curve in HDR_CURVES:
            raise DelitError(
                f"{name} is HDR video ({HDR_CURVES[self.colours.curve]}); Delit reads ordinary video. Export it as EXR "
                "frames in linear light and delit those as plates."
            )
        # Presentation times of frames that were read and not yet written.
        self.times: deque[int] = deque()

    @contextmanager
    def opened(self) -> Iterator[av.container.InputContainer]:
        if hasattr(self.source, "seek"):
            self.source.seek(0)
        try:
            # A damaged title is no reason to refuse the pictures.
            container = av.open(
                str(self.source) if isinstance(self.source, Path) else self.source,
                options={"format_whitelist": ",".join(CONTAINERS)},
                metadata_errors="replace",
            )
        except (av.FFmpegError, OSError) as error:
            raise DelitError(
                f"{self.name} cannot be read as a video: {error}. Export it again, as MP4 for instance."
            ) from error
        with container:
            if not container.streams.video:
                raise DelitError(f"{self.name} holds no picture, only sound. Give a video.")
            yield container

    @property
    def frames(self) -> int:
        """About how many frames will be read; 0 where nothing says."""
        if not self.start and not self.duration and self._stored_frames:
            return self._stored_frames
        seconds = max(0.0, self._seconds - self.start)
        return round(float(self.rate) * (min(seconds, self.duration) if self.duration else seconds))

    def pictures(self) -> Iterator[Tensor]:
        """Frames [H, W, 3], uint8, upright. `times` gets the time of each, in units of `time_base`."""
        self.times.clear()
        with self.opened() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            start = round(self.start / self.time_base)
            end = round((self.start + self.duration) / self.time_base) if self.duration else None
            try:
                if start > 0:
                    container.seek(start, stream=stream)
                for number, frame in enumerate(container.decode(stream)):
                    time = (
                        round(number / self.rate / self.time_base) + start if frame.pts is None else frame.pts
                    )
                    if time < start:
                        continue
                    if end is not None and time >= end:
                        return
                    self.times.append(time)
                    yield _upright(frame)
            except av.FFmpegError as error:
                raise DelitError(f"{self.name} is damaged: {error}. Export it again.") from error


def write_video(
    path: Path,
    pictures: Iterable[Tensor],
    rate: Fraction,
    *,
    source: VideoFile | None = None,
    sound: Callable[[av.container.OutputContainer], Sound | None] | None = None,
) -> int:
    """Write frames [H, W, 3 or more] in [0, 1] as they come, whole or not at all, and return how many they were.

    Args:
        path: an .mp4.
        rate: frames a second.
        source: what the frames were read from, one for one, by `VideoFile.pictures`: gives their times, colours and
            sound.
        sound: makes the sound, where it does not come from `source`.

    Raises:
        DelitError: if it cannot be written, or there are no frames.
    """
    count = 0
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        writer = _Writer(container, rate, source)
        try:
            for picture in pictures:
                if count == 0:
                    writer.begin(picture, sound)
                writer.write(picture)
                count += 1
            if count == 0:
                raise DelitError("The clip has no frames.")
            writer.end()
        except av.FFmpegError as error:
            raise DelitError(f"{path.name} cannot be written: {error}.") from error
    return count


class _Writer:
    """One MP4 while it is written: every frame with the sound up to it."""

    def __init__(
        self, container: av.container.OutputContainer, rate: Fraction, source: VideoFile | None
    ) -> None:
        self.container, self.rate, self.source = container, rate, source
        self.time_base = source.time_base if source else 1 / rate
        self.colours = source.colours if source else Colours()
        self.first_time = 0
        self.count = 0

    def begin(self, picture: Tensor, sound: Callable | None) -> None:
        self.video = self.container.add_stream("libx264", rate=self.rate, options={"crf": RATE_FACTOR})
        height, width = picture.shape[:2]
        self.video.height, self.video.width = height + height % 2, width + width % 2
        self.video.pix_fmt = "yuv420p"
        context = self.video.codec_context
        context.time_base = self.time_base
        context.color_range = LIMITED_RANGE
        context.colorspace = self._matrix
        context.color_primaries, context.color_trc = self.colours.primaries, self.colours.curve
        if self.source:
            self.first_time = self.source.times[0]
            start = self.first_time * self.time_base
            self.sound = copied_sound(self.container, self.source, start)
        else:
            self.sound = sound(self.container) if sound else None

    def write(self, picture: Tensor) -> None:
        pixels = (_to_even(picture[..., :3]) * 255).round().clamp(0, 255).to(torch.uint8)
        rgb = av.VideoFrame.from_ndarray(pixels.cpu().contiguous().numpy(), format="rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace=self._matrix)
        frame.time_base = self.time_base
        frame.pts = self.source.times.popleft() - self.first_time if self.source else self.count
        self.count += 1
        if self.sound is not None:
            self.sound.write_until(frame.pts * self.time_base)
        self.container.mux(self.video.encode(frame))
        self.end_time = frame.pts * self.time_base + 1 / self.rate

    def end(self) -> None:
        self.container.mux(self.video.encode())
        if self.sound is not None:
            stretch = self.source is None or self.source.duration
            self.sound.end(self.end_time if stretch else None)

    @property
    def _matrix(self) -> int:
        return UNSPECIFIED if self.colours.matrix == RGB_MATRIX else self.colours.matrix


def _upright(frame: av.VideoFrame) -> Tensor:
    """[H, W, 3], uint8; a telephone's video says by how much it is to be turned."""
    pixels = frame.to_ndarray(format="rgb24")
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    if quarter_turns:
        pixels = np.ascontiguousarray(np.rot90(pixels, k=quarter_turns))
    return torch.from_numpy(pixels)


def _to_even(frame: Tensor) -> Tensor:
    """H.264 in 4:2:0 takes even sides only: an odd one repeats its last row or column."""
    height, width = frame.shape[:2]
    if height % 2:
        frame = torch.cat([frame, frame[-1:]])
    if width % 2:
        frame = torch.cat([frame, frame[:, -1:]], dim=1)
    return frame
