"""Videos: sound ones with and without sound, turned, of odd sides, damaged bit by bit and cut at every box."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from delit_models.pipeline import DelitOptions
from delit_models.video.files import VideoFile, write_video
from delit_models.video.sound import encoded_sound
from training.batch.jobs import Job
from training.batch.pieces import check_job
from training.batch.results import Results
from training.batch.videos import delit_video

from .damage import damaged
from .harness import Case, Fault, Kind
from .tensors import cheap_pipeline

KINDS = ("plain", "sound", "odd", "still", "mpeg4", "only sound", "described")
FRAMES = 5


@lru_cache
def sound_video(kind: str) -> bytes:
    """The bytes of a small MP4 (of an AVI for "mpeg4") as another program may write it."""
    codec, suffix = ("mpeg4", ".avi") if kind == "mpeg4" else ("libx264", ".mp4")
    with TemporaryDirectory() as folder:
        path = Path(folder, f"clip{suffix}")
        if kind == "sound":
            frames = torch.rand(FRAMES, 64, 64, 3, generator=torch.Generator().manual_seed(0))
            write_video(
                path, frames, Fraction(24), sound=lambda container: encoded_sound(container, _tone(), 44100)
            )
            return path.read_bytes()
        options = {"movflags": "+faststart"} if kind == "plain" else {}
        with av.open(str(path), "w", options=options) as container:
            if kind == "only sound":
                encoded_sound(container, _tone(), 44100).end(None)
            else:
                if kind == "described":
                    container.metadata.update({"title": "日本" * 40, "comment": "x" * 3000})
                size = (66, 70) if kind == "odd" else (64, 64)
                _write_pictures(container, codec, size, 1 if kind == "still" else FRAMES)
        return path.read_bytes()


def _tone() -> Tensor:
    return torch.sin(torch.arange(9216) / 20).repeat(2, 1)


def _write_pictures(
    container: av.container.OutputContainer, codec: str, size: tuple[int, int], count: int
) -> None:
    stream = container.add_stream(codec, rate=Fraction(24000, 1001))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    pixels = np.random.default_rng(0).integers(40, 220, (*size, 3), dtype=np.uint8)
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(np.roll(pixels, number, axis=1), format="rgb24")
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(KINDS))
    done, content = draw(damaged(sound_video(kind)))
    suffix = draw(st.sampled_from([".mp4", ".mp4", ".mov", ".mkv", ".avi"]))
    reader = draw(st.sampled_from(sorted(READERS)))
    return Case(
        f"{reader} of {kind} as {suffix}, {done}",
        lambda folder: _read(reader, content, folder / f"clip{suffix}"),
    )


def _read(reader: str, content: bytes, path: Path) -> None:
    path.write_bytes(content)
    READERS[reader](path)
    if path.read_bytes() != content:
        raise Fault(f"{reader} changed the video that it read")


def _pictures(path: Path) -> None:
    _count(VideoFile(path, path.name))


def _part(path: Path) -> None:
    _count(VideoFile(path, path.name, start=0.05, duration=0.1))


def _count(file: VideoFile) -> int:
    sides = set()
    count = 0
    for picture in file.pictures():
        sides.add(tuple(picture.shape))
        count += 1
        if picture.dtype != torch.uint8 or picture.ndim != 3 or 0 in picture.shape:
            raise Fault("a video gave a frame that is no picture")
    if file.frames < 0 or file.rate <= 0:
        raise Fault("a video told a number of frames or a rate below zero")
    return count


def _copied(path: Path) -> None:
    """Frames and sound into another file, as the command does it."""
    file = VideoFile(path, path.name)
    copy = path.with_name("copy.mp4")
    try:
        count = write_video(
            copy, (picture.float() / 255 for picture in file.pictures()), file.rate, source=file
        )
        if _count(VideoFile(copy, copy.name)) != count:
            raise Fault("a video came back with another number of frames")
    finally:
        _check_parts(path, copy)


def _delit(path: Path) -> None:
    job = Job((path,), path.stem)
    results = Results(path.parent / "out")
    options = DelitOptions()
    check_job(job, options, results)
    try:
        delit_video(cheap_pipeline(), job, options, results)
        if next(VideoFile(results.output / "clip_flat.mp4", "flat").pictures()).max() == 0:
            raise Fault("a video was delit to black")
    finally:
        _check_parts(*results.output.glob("*"))


def _check_parts(*paths: Path) -> None:
    """Nothing but whole files is left in the folders of these."""
    for folder in {path.parent for path in paths}:
        if parts := [path.name for path in folder.iterdir() if path.name.startswith(".")]:
            raise Fault(f"a part of a video was left: *{Path(parts[0]).suffix}")


READERS: dict[str, Callable[[Path], None]] = {
    "pictures": _pictures,
    "a part": _part,
    "a copy": _copied,
    "delit": _delit,
}
KIND = Kind("videos", cases(), 500, 25)
