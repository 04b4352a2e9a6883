"""Videos read and written: times, colours, sound, stretches, and no half-written file."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from delit_models.errors import DelitError
from delit_models.video.files import VideoFile, write_video
from delit_models.video.sound import encoded_sound

RATE = 44100


def write_clip(
    path: Path,
    count: int = 20,
    rate: int | Fraction = 20,
    sound: str | None = "aac",
    times: list | None = None,
    **tags,
) -> None:
    """Frame t is grey 40 + 8 t, with a tone along."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "1"})
        video.height, video.width, video.pix_fmt = 64, 80, "yuv420p"
        if times:
            video.codec_context.time_base = Fraction(1, 1000)
        for name, value in tags.items():
            setattr(video.codec_context, name, value)
        audio = container.add_stream(sound, rate=RATE, layout="mono") if sound else None
        for t in range(count):
            pixels = np.full((64, 80, 3), 40 + 8 * t % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[t], Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            tone = np.sin(np.arange(int(RATE * count / rate), dtype=np.float32) / 20)[None]
            samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            samples.sample_rate = RATE
            for part in av.AudioResampler(audio.codec_context.format or "s16", "mono", RATE).resample(
                samples
            ):
                container.mux(audio.encode(part))
            container.mux(audio.encode())


def read(path: Path) -> tuple[list[float], list[float], np.ndarray | None, Fraction]:
    """Times and greys of the frames, samples, frame rate."""
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        frames = [(f.time, f.to_ndarray(format="rgb24").mean()) for f in container.decode(video=0)]
        samples = None
        if container.streams.audio:
            container.seek(0)
            samples = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
    return [t for t, _ in frames], [grey for _, grey in frames], samples, rate


def copy(source: VideoFile, path: Path) -> int:
    pictures = (picture.float() / 255 for picture in source.pictures())
    return write_video(path, pictures, source.rate, source=source)


@pytest.mark.parametrize("rate", [20, Fraction(30000, 1001)])
def test_a_copy_is_the_same_video(tmp_path, rate):
    write_clip(tmp_path / "a.mp4", rate=rate)
    video = VideoFile(tmp_path / "a.mp4", "a.mp4")
    assert video.frames == 20 and video.rate == rate
    assert copy(video, tmp_path / "b.mp4") == 20
    before, after = read(tmp_path / "a.mp4"), read(tmp_path / "b.mp4")
    assert after[0] == pytest.approx(before[0]) and after[1] == pytest.approx(before[1], abs=2)
    np.testing.assert_array_equal(after[2], before[2])
    assert after[3] == before[3]


def test_uneven_times_are_kept(tmp_path):
    times = [0, 40, 200, 210, 500]
    write_clip(tmp_path / "a.mkv", 5, sound=None, times=times)
    copy(VideoFile(tmp_path / "a.mkv", "a.mkv"), tmp_path / "b.mp4")
    found = read(tmp_path / "b.mp4")[0]
    assert [round(1000 * t) for t in found] == pytest.approx(times, abs=1)


def test_a_stretch_of_a_video(tmp_path):
    write_clip(tmp_path / "a.mp4")
    video = VideoFile(tmp_path / "a.mp4", "a.mp4", start=0.25, duration=0.5)
    assert video.frames == 10
    copy(video, tmp_path / "b.mp4")
    times, greys, samples, _ = read(tmp_path / "b.mp4")
    whole = read(tmp_path / "a.mp4")[1]
    assert times == pytest.approx([t / 20 for t in range(10)])
    assert greys == pytest.approx(whole[5:15], abs=2)
    assert samples.shape[1] / RATE == pytest.approx(0.5, abs=0.05)


def test_a_sound_that_an_mp4_does_not_hold_is_encoded(tmp_path):
    write_clip(tmp_path / "a.mkv", sound="pcm_s16le")
    copy(VideoFile(tmp_path / "a.mkv", "a.mkv"), tmp_path / "b.mp4")
    samples = read(tmp_path / "b.mp4")[2]
    assert samples.shape[1] == pytest.approx(RATE, abs=2100) and np.abs(samples).max() > 0.5


def test_colours_are_said_as_they_were(tmp_path):
    write_clip(tmp_path / "a.mp4", colorspace=1, color_primaries=1, color_trc=1)
    video = VideoFile(tmp_path / "a.mp4", "a.mp4")
    assert (video.colours.matrix, video.colours.primaries, video.colours.curve) == (1, 1, 1)
    copy(video, tmp_path / "b.mp4")
    assert VideoFile(tmp_path / "b.mp4", "b.mp4").colours == video.colours


def test_hdr_and_what_is_no_video_are_refused(tmp_path):
    write_clip(tmp_path / "hdr.mp4", 2, color_trc=16)
    with pytest.raises(DelitError, match="HDR"):
        VideoFile(tmp_path / "hdr.mp4", "hdr.mp4")
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    with pytest.raises(DelitError, match="cannot be read"):
        VideoFile(tmp_path / "no.mp4", "no.mp4")
    with av.open(str(tmp_path / "sound.m4a"), "w") as container:
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    with pytest.raises(DelitError, match="only sound"):
        VideoFile(tmp_path / "sound.m4a", "sound.m4a")


def test_a_file_in_memory_is_read(tmp_path):
    write_clip(tmp_path / "a.mp4", 6)
    memory = io.BytesIO((tmp_path / "a.mp4").read_bytes())
    assert copy(VideoFile(memory, "memory"), tmp_path / "b.mp4") == 6


def test_odd_sides_and_a_sound_of_samples(tmp_path):
    pictures = (torch.full((65, 67, 4), 0.5) for _ in range(10))
    tone = torch.sin(torch.arange(RATE) / 20).expand(2, -1)
    count = write_video(
        tmp_path / "a.mp4",
        pictures,
        Fraction(10),
        sound=lambda container: encoded_sound(container, tone, RATE),
    )
    assert count == 10
    _, greys, samples, rate = read(tmp_path / "a.mp4")
    assert len(greys) == 10 and rate == 10 and samples.shape[1] == pytest.approx(RATE, abs=2100)


def test_what_stops_half_way_leaves_no_file(tmp_path):
    def stopped():
        yield torch.zeros(64, 64, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", stopped(), Fraction(10))
    with pytest.raises(DelitError, match="no frames"):
        write_video(tmp_path / "a.mp4", iter([]), Fraction(10))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile other.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nother.ts\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n",
    ],
    ids=["concat", "HLS", "SDP"],
)
def test_a_playlist_under_a_videos_name_opens_no_other_file(
    tmp_path: Path, playlist: str, in_memory: bool
) -> None:
    write_clip(tmp_path / "other.ts", sound=None)
    (tmp_path / "clip.mp4").write_text(playlist)
    source = io.BytesIO(playlist.encode()) if in_memory else tmp_path / "clip.mp4"
    with pytest.raises(DelitError, match="clip.mp4 cannot be read as a video"):
        VideoFile(source, "clip.mp4")
