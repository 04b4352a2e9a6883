"""Take the light off pictures and videos from the command line.

    python -m training.delit portrait.jpg --output pictures
    python -m training.delit folder_or_video --output pictures

For a picture: `<name>_flat.png`, `<name>_env.exr` (the light), `<name>_env.png` (the light, to look at) and
`<name>_compare.png` (before and after). For a video: `<name>_flat.mp4` and one `<name>_env.exr` for the shot.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.color import tone_map
from delit_models.env_map_files import write_env_map
from delit_models.errors import DelitError
from delit_models.image_files import read_image, write_image
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE, DelitOptions, DelitPipeline

from .command_line import run_command

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}
# Maps of a long shot that its median is taken over; more would not change it.
MAPS_OF_A_SHOT = 200


def delit(arguments: argparse.Namespace) -> None:
    source, output = Path(arguments.source), Path(arguments.output)
    files = _files(source)
    pipe = DelitPipeline.load(arguments.vae, arguments.heads, arguments.device)
    options = DelitOptions(
        working_size=arguments.working_size,
        detail_transfer=not arguments.no_detail_transfer,
        area=arguments.area,
        outside=arguments.outside,
    )
    mask = None if arguments.mask is None else _read_mask(Path(arguments.mask))
    for file in tqdm(files, desc="delit", disable=len(files) == 1):
        if file.suffix.lower() in VIDEOS:
            delit_video(pipe, file, output, options, arguments.orientation)
        else:
            delit_picture(pipe, file, output, options, arguments.orientation, mask)
    print(f"The results are in {output.resolve()}")


def delit_picture(
    pipe: DelitPipeline,
    file: Path,
    output: Path,
    options: DelitOptions,
    orientation: str,
    mask: Tensor | None,
) -> None:
    """One picture → its flat-lit picture, its environment map, a preview of that, and a comparison."""
    picture = read_image(file)[None]
    result = pipe(picture, mask, options)
    flat, env = result.flat[0].cpu(), result.env[0].cpu()
    write_image(output / f"{file.stem}_flat.png", flat)
    write_env_map(output / f"{file.stem}_env.exr", env, orientation=orientation)
    preview = tone_map(env)
    write_image(output / f"{file.stem}_env.png", preview)
    write_image(output / f"{file.stem}_compare.png", side_by_side(picture[0], flat, preview))


def delit_video(
    pipe: DelitPipeline, file: Path, output: Path, options: DelitOptions, orientation: str
) -> None:
    """One video → its flat-lit video, and the environment map of the shot (the median over its frames)."""
    maps: list[Tensor] = []
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or Fraction(24)
        frames = (
            torch.from_numpy(frame.to_ndarray(format="rgb24")).float() / 255
            for frame in container.decode(stream)
        )
        results = tqdm(
            pipe.stream(frames, options), total=stream.frames or None, desc=file.name, unit="frame"
        )
        with atomic_write(output / f"{file.stem}_flat.mp4") as temporary:
            _write_video(temporary, _keep_maps(results, maps), rate)
    shot = torch.stack(maps).median(dim=0).values
    write_env_map(output / f"{file.stem}_env.exr", shot, orientation=orientation)
    write_image(output / f"{file.stem}_env.png", tone_map(shot))


def side_by_side(picture: Tensor, flat: Tensor, preview: Tensor) -> Tensor:
    """Source, flat-lit and light [H, W, C] in one row, at the source's height; [H, W', 3]."""
    height = picture.shape[0]
    columns = (
        x.expand(*x.shape[:2], 3) if x.shape[-1] == 1 else x[..., :3] for x in (picture, flat, preview)
    )
    return torch.cat([_to_height(column, height) for column in columns], dim=1)


def _to_height(image: Tensor, height: int) -> Tensor:
    width = round(image.shape[1] * height / image.shape[0])
    x = rearrange(image, "h w c -> 1 c h w")
    resized = F.interpolate(x, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return rearrange(resized, "1 c h w -> h w c").clamp(0, 1)


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


def _write_video(path: Path, frames: Iterator[Tensor], rate: Fraction) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = None
        for frame in frames:
            even = _repeat_to_even(frame[..., :3])
            if stream is None:
                stream = container.add_stream("libx264", rate=rate, options={"crf": "16"})
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt = "yuv420p"
            pixels = (even * 255).round().to(torch.uint8).contiguous().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def _repeat_to_even(frame: Tensor) -> Tensor:
    """H.264 in 4:2:0 takes even sides only: an odd one repeats its last row or column."""
    height, width = frame.shape[:2]
    rows = torch.arange(height + height % 2).clamp(max=height - 1)
    columns = torch.arange(width + width % 2).clamp(max=width - 1)
    return frame[rows][:, columns]


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        found = sorted(f for f in source.iterdir() if f.suffix.lower() in PICTURES | VIDEOS)
        if not found:
            raise DelitError(f"There is no picture or video in {source}.")
        return found
    if not source.is_file():
        raise DelitError(f"{source} is not there. Give a picture, a video or a folder of them.")
    if source.suffix.lower() not in PICTURES | VIDEOS:
        known = ", ".join(sorted(PICTURES | VIDEOS))
        raise DelitError(f"{source} is no picture or video that Delit reads; it reads {known}.")
    return [source]


def _read_mask(path: Path) -> Tensor:
    """A mask picture → [1, H, W]: its alpha if it has one, else its brightness."""
    picture = read_image(path)
    return (picture[..., 3] if picture.shape[-1] == 4 else picture.mean(dim=-1))[None]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="a picture, a video, or a folder of them")
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_argument("--vae", default=EMBEDDED_VAE, help="Wan 2.1 VAE file (default: the embedded one)")
    parser.add_argument("--heads", default=EMBEDDED_HEADS, help="heads file (default: the embedded ones)")
    parser.add_argument("--mask", help="mask picture, white where the subject is; for one picture")
    parser.add_argument("--area", default="subject", choices=("subject", "picture"),
                        help="what is delit of a picture without a mask: the person, as the heads see it, or all "
                        "(%(default)s)")  # fmt: skip
    parser.add_argument("--outside", default="source", choices=("source", "black", "transparent"),
                        help="what goes outside the mask or the person (%(default)s)")  # fmt: skip
    parser.add_argument(
        "--working_size",
        type=int,
        default=0,
        help="longest side in pixels that the network sees (0: as the heads were trained)",
    )
    parser.add_argument("--no_detail_transfer", action="store_true", help="show the VAE's own picture")
    parser.add_argument("--orientation", default="delit", help="orientation preset of the environment map")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(delit, parse_arguments())
