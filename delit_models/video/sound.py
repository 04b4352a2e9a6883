"""The sound of a video while its pictures are written: copied packet for packet, or encoded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import av
from torch import Tensor

if TYPE_CHECKING:
    from .files import VideoFile

logger = logging.getLogger(__name__)

# Codecs that an MP4 holds and players read; others are encoded as AAC.
COPIED_CODECS = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
AAC_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
SAMPLES_A_FRAME = 1024


class Sound(Protocol):
    """Writes a sound along with the pictures."""

    def write_until(self, time: Fraction) -> None:
        """Write what lies before `time`, in seconds from the first picture."""

    def end(self, time: Fraction | None) -> None:
        """Write the rest, as far as `time` (None: all of it), and finish."""


class _Packets:
    """Sound that comes as packets in the order of their times."""

    def __init__(self, container: av.container.OutputContainer, packets: Iterator[av.Packet]) -> None:
        self.container, self.packets = container, packets
        self.next: av.Packet | None = next(packets, None)

    def write_until(self, time: Fraction) -> None:
        while self.next is not None and self.next.pts * self.next.time_base < time:
            # Muxing changes the packet's time base, so the next one is taken first.
            packet, self.next = self.next, next(self.packets, None)
            self.container.mux(packet)

    def end(self, time: Fraction | None) -> None:
        self.write_until(float("inf") if time is None else time)
        self.packets.close()


def copied_sound(container: av.container.OutputContainer, source: VideoFile, start: Fraction) -> Sound | None:
    """The first sound of a video, from `start` seconds on; None where it has none that can be read."""
    with source.opened() as probe:
        if not probe.streams.audio:
            return None
        template = probe.streams.audio[0]
        if template.codec_context is None:
            logger.warning("The sound of %s cannot be read: the result has none.", source.name)
            return None
        if template.codec_context.name in COPIED_CODECS:
            stream = container.add_stream_from_template(template)
            return _Packets(container, _copied(source, stream, start))
        rate = template.codec_context.sample_rate
        # Some files give the number of channels and no names for them, which no encoder takes.
        layout = LAYOUTS.get(template.codec_context.channels, "stereo")
    rate = rate if rate in AAC_RATES else 48000
    stream = container.add_stream("aac", rate=rate, layout=layout)
    return _Packets(container, _encoded(_decoded(source, start), stream, rate, layout))


def encoded_sound(container: av.container.OutputContainer, waveform: Tensor, rate: int) -> Sound:
    """Samples [channels, n] in [-1, 1] as AAC."""
    layout = LAYOUTS.get(len(waveform), "stereo")
    if len(waveform) not in LAYOUTS:
        waveform = waveform[:2]
    coded_rate = rate if rate in AAC_RATES else 48000
    stream = container.add_stream("aac", rate=coded_rate, layout=layout)

    def frames() -> Iterator[av.AudioFrame]:
        for first in range(0, waveform.shape[1], SAMPLES_A_FRAME):
            samples = waveform[:, first : first + SAMPLES_A_FRAME].float().cpu().contiguous().numpy()
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            yield frame

    return _Packets(container, _encoded(frames(), stream, coded_rate, layout))


def _copied(source: VideoFile, stream: av.AudioStream, start: Fraction) -> Iterator[av.Packet]:
    with source.opened() as container:
        template = container.streams.audio[0]
        shift = round(start / template.time_base)
        if source.start:
            container.seek(shift, stream=template)
        for packet in container.demux(template):
            if packet.dts is None or packet.pts is None:
                continue
            if source.start and packet.pts + (packet.duration or 0) <= shift:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = stream
            yield packet


def _decoded(source: VideoFile, start: Fraction) -> Iterator[av.AudioFrame]:
    with source.opened() as container:
        template = container.streams.audio[0]
        for frame in container.decode(template):
            if frame.pts is None:
                continue
            frame.pts -= round(start / frame.time_base)
            if frame.pts * frame.time_base + Fraction(frame.samples, frame.sample_rate) > 0:
                yield frame


def _encoded(
    frames: Iterator[av.AudioFrame], stream: av.AudioStream, rate: int, layout: str
) -> Iterator[av.Packet]:
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    for frame in frames:
        for fitted in resampler.resample(frame):
            yield from stream.encode(fitted)
    for fitted in resampler.resample(None):
        yield from stream.encode(fitted)
    yield from stream.encode(None)
