"""Files as what is in them: whether each is whole, and whether two folders hold the same."""

from __future__ import annotations

import io
import json
import math
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from delit_models.oiio_files import read_pixels


def results_in(folder: Path, left_out: tuple[str, ...] = ()) -> dict[str, Path]:
    """All files of a folder by their names in it, but for hidden ones, which are nobody's results, and those of
    these names or under folders of them."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") or part in left_out for part in path.relative_to(folder).parts)
    }


def hidden_files(folder: Path) -> list[str]:
    """What writing leaves behind when it is cut short."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob(".*") if p.is_file())


def content_of(path: Path) -> object:
    """What a file holds, in a form that can be compared with ==. Raises whatever the file's reader does where it is not
    whole."""
    return _READERS.get(path.suffix.lower(), _text)(path)


def damaged_files(folder: Path, left_out: tuple[str, ...] = ()) -> Iterator[str]:
    """Results that cannot be read to their end."""
    for name, path in results_in(folder, left_out).items():
        try:
            content_of(path)
        except Exception as error:
            # Readers of damaged files fail in any way they like.
            yield f"{name} is not whole: {type(error).__name__}: {error}"


def differences(folder: Path, other: Path, left_out: tuple[str, ...] = ()) -> Iterator[str]:
    """In what a folder's results differ from another's."""
    own, others = results_in(folder, left_out), results_in(other, left_out)
    for name in sorted(own.keys() | others.keys()):
        if name not in own or name not in others:
            yield f"{name} is {'missing' if name in others else 'too many'}"
        elif content_of(own[name]) != content_of(others[name]):
            yield f"{name} differs from the unbroken run's"


def mean_difference(one: Path, other: Path) -> float:
    """Of two videos' frames, in codes of 8 bits; infinite where they are of other sizes or numbers."""
    frames, others = (
        np.frombuffer(b"".join(_video(path)), np.uint8).astype(np.float32) for path in (one, other)
    )
    return float(np.abs(frames - others).mean()) if frames.shape == others.shape else math.inf


def _picture(path: Path) -> object:
    with Image.open(path) as picture:
        picture.load()
        return picture.mode, picture.size, picture.tobytes()


def _hdr(path: Path) -> object:
    image = read_pixels(path)
    return image.pixels.shape, image.channels, image.pixels.tobytes()


def _safetensors(path: Path) -> object:
    with safe_open(path, framework="pt") as file:
        tensors = {name: _plain(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        return file.metadata(), tensors


def _checkpoint(path: Path) -> object:
    return _plain(torch.load(path, map_location="cpu", weights_only=True))


def _plain(value: object) -> object:
    """Tensors as what can be compared with ==."""
    if isinstance(value, torch.Tensor):
        return (
            str(value.dtype),
            tuple(value.shape),
            value.contiguous().view(-1).view(torch.uint8).numpy().tobytes(),
        )
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _video(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def _shard(path: Path) -> object:
    content = path.read_bytes()
    # Two blocks of zeros end an archive; tarfile does without.
    if not content.endswith(bytes(1024)):
        raise ValueError("it is cut short")
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as archive,
        tempfile.TemporaryDirectory(prefix="delit-shard-") as folder,
    ):
        return [(member.name, _member(archive, member, Path(folder))) for member in archive]


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> object:
    """What a file in an archive holds: an EXR also tells when it was written, so that bytes cannot be compared."""
    file = folder / f"member{Path(member.name).suffix}"
    file.write_bytes(archive.extractfile(member).read())
    return content_of(file)


def _json(path: Path) -> object:
    return json.loads(path.read_text())


def _json_lines(path: Path) -> object:
    lines = path.read_text().splitlines(keepends=True)
    if not all(line.endswith("\n") for line in lines):
        raise ValueError("its last line is cut short")
    return sorted(json.dumps(json.loads(line), sort_keys=True) for line in lines)


def _page(path: Path) -> object:
    text = path.read_text()
    if not text.endswith("</html>\n"):
        raise ValueError("it is cut short")
    return text


def _text(path: Path) -> object:
    content = path.read_bytes()
    if not content:
        raise ValueError("it is empty")
    return content


_READERS: dict[str, Callable[[Path], object]] = {
    ".png": _picture,
    ".jpg": _picture,
    ".exr": _hdr,
    ".hdr": _hdr,
    ".safetensors": _safetensors,
    ".pt": _checkpoint,
    ".mp4": _video,
    ".tar": _shard,
    ".json": _json,
    ".jsonl": _json_lines,
    ".html": _page,
}
