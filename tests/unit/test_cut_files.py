"""Files cut off at every place where a part of their headers ends, and a byte to either side: refused with a cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from delit_models.env_map_files import read_env_map, write_env_map
from delit_models.errors import DelitError
from delit_models.image_files import read_image, write_image
from delit_models.plate_files import read_plate, write_plate
from delit_models.tensor_files import open_tensor_file, write_tensors
from tests.fuzz.damage import boundaries, pieces

PICTURE = torch.rand(72, 80, 3, generator=torch.Generator().manual_seed(0))
MAP = 4 * torch.rand(64, 128, 3, generator=torch.Generator().manual_seed(1))


def _picture(path: Path) -> None:
    write_image(path, PICTURE, 16 if path.stem == "deep" else 8)


def _map(path: Path) -> None:
    write_env_map(path, MAP)


def _plate(path: Path) -> None:
    write_plate(path, PICTURE)


def _tensors(path: Path) -> None:
    write_tensors(path, {"a": PICTURE, "b": MAP}, {"name": "x"})


def _read_tensors(path: Path) -> Tensor:
    with open_tensor_file(path) as file:
        return torch.cat([file.read(name).flatten() for name in sorted(file.shapes)])


@pytest.mark.parametrize(
    ("name", "write", "read"),
    [
        ("flat.png", _picture, read_image),
        ("deep.png", _picture, read_image),
        ("flat.jpg", _picture, read_image),
        ("flat.tif", _picture, read_image),
        ("env.exr", _map, lambda path: read_env_map(path).radiance),
        ("env.hdr", _map, lambda path: read_env_map(path).radiance),
        ("plate.exr", _plate, lambda path: read_plate(path).pixels),
        ("weights.safetensors", _tensors, _read_tensors),
    ],
)
def test_a_cut_file_is_refused(
    name: str, write: Callable[[Path], None], read: Callable[[Path], Tensor], tmp_path: Path
) -> None:
    whole, cut = tmp_path / name, tmp_path / f"cut_{name}"
    write(whole)
    content, expected = whole.read_bytes(), read(whole)
    ends = boundaries(content)
    assert len(ends) > 3, "the file's parts are not known"
    for piece in pieces(content, ends):
        cut.write_bytes(piece)
        try:
            made = read(cut)
        except DelitError as error:
            assert cut.name in str(error) and "\n" not in str(error)
        else:
            # What comes after the last pixel is not needed.
            assert torch.equal(made, expected), (
                f"cut at {len(piece)} of {len(content)} bytes it gives another picture"
            )
