"""Small videos for the tests."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch

from delit_models.image_files import read_image
from tests.comfy.comfyui import REPOSITORY

RATE = 25
SAMPLES = 44100


def panned(count: int = 12, side: int = 96) -> np.ndarray:
    """The example portrait, small, passed over from left to right: [count, side, side, 3] in [0, 1]."""
    picture = read_image(REPOSITORY / "portraits" / "photograph.jpg")[..., :3].permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(picture, size=(side, side + 40), mode="bilinear", antialias=True)
    frames = [small[0, :, :, (2 * t) % 40 : (2 * t) % 40 + side] for t in range(count)]
    return torch.stack(frames).permute(0, 2, 3, 1).clamp(0, 1).contiguous().numpy()


def write_clip(path: Path, frames: np.ndarray, sound: bool = True) -> None:
    """H.264 with a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "4"})
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLES) if sound else None
        for frame in (frames * 255).round().astype(np.uint8):
            container.mux(
                video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
            )
        container.mux(video.encode())
        if audio is not None:
            tone = np.sin(np.arange(SAMPLES * len(frames) // RATE, dtype=np.float32) / 20)[None]
            samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            samples.sample_rate = SAMPLES
            container.mux(audio.encode(samples))
            container.mux(audio.encode())


def put_workflow_clip(folder: Path) -> None:
    """The video that workflows/delit_video.json names, in the input folder of a server."""
    write_clip(folder / "shot.mp4", panned(12, side=128))


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray | None, object]:
    """Frames [T, H, W, 3] in [0, 1], samples or None, and the frame rate."""
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        samples = None
        if container.streams.audio:
            container.seek(0)
            samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    return np.stack(frames).astype(np.float32) / 255, samples, rate
