"""Normal maps: their coding, both conventions, other sizes, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from delit_models.errors import DelitError
from delit_models.normals import decode_normals, encode_normals

OPENGL, DIRECTX = "OpenGL (+Y up)", "DirectX (-Y up)"


def dome(size: int = 96) -> tuple[Tensor, Tensor]:
    """Normals of a half sphere, [S, S, 3], zero outside of it; and where it is, [S, S]."""
    across = (torch.arange(size) + 0.5) / size * 2.2 - 1.1
    y, x = torch.meshgrid(-across, across, indexing="ij")
    inside = x.square() + y.square() < 0.95
    z = (1 - x.square() - y.square()).clamp(min=0).sqrt()
    return torch.stack((x, y, z), -1) * inside[..., None], inside


def test_eight_bit_normals_come_back_within_a_third_of_a_degree() -> None:
    normals, inside = dome()
    coded = (encode_normals(normals) * 255).round() / 255
    decoded, known = decode_normals(coded[None], OPENGL, (96, 96))
    assert torch.equal(known[0], inside)
    angle = torch.rad2deg((decoded[0] - normals).norm(dim=-1)[inside])
    assert angle.max() < 0.4
    torch.testing.assert_close(
        decoded[0][~inside], torch.tensor([0.0, 0.0, 1.0]).expand_as(decoded[0][~inside])
    )


def test_directx_turns_green_over() -> None:
    normals, inside = dome()
    green_down = encode_normals(normals * torch.tensor([1.0, -1.0, 1.0]))
    as_directx, _ = decode_normals(green_down[None], DIRECTX, (96, 96))
    as_opengl, _ = decode_normals(green_down[None], OPENGL, (96, 96))
    torch.testing.assert_close(as_directx[0][inside], normals[inside], atol=1e-5, rtol=0)
    torch.testing.assert_close(as_opengl[0][inside][:, 1], -normals[inside][:, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("around", [0.0, 0.5, 1.0])
def test_black_grey_and_white_are_no_normals(around: float) -> None:
    normals, inside = dome()
    coded = torch.where(inside[..., None], encode_normals(normals), around)
    _, known = decode_normals(coded[None], OPENGL, (96, 96))
    assert torch.equal(known[0], inside)


@given(height=st.integers(64, 200), width=st.integers(64, 200))
def test_maps_of_another_size_are_resized_and_stay_unit_vectors(height: int, width: int) -> None:
    normals, _ = dome()
    decoded, known = decode_normals(encode_normals(normals)[None], OPENGL, (height, width))
    assert decoded.shape == (1, height, width, 3) and known.shape == (1, height, width)
    torch.testing.assert_close(decoded.norm(dim=-1), torch.ones(1, height, width))
    y = -((torch.arange(height) + 0.5) / height * 2.2 - 1.1)[:, None].expand(height, width)
    assert (decoded[0, ..., 1] - y).abs()[known[0]].max() < 0.1


def test_what_is_no_camera_space_normal_map_is_refused() -> None:
    normals, _ = dome()
    with pytest.raises(DelitError, match="face the camera"):
        decode_normals(encode_normals(-normals)[None], OPENGL, (96, 96))
    with pytest.raises(DelitError, match="holds no normal"):
        decode_normals(torch.zeros(1, 96, 96, 3), OPENGL, (96, 96))
    with pytest.raises(DelitError, match="convention"):
        decode_normals(encode_normals(normals)[None], "Z up", (96, 96))
    with pytest.raises(DelitError, match="NaN"):
        decode_normals(torch.full((1, 96, 96, 3), torch.nan), OPENGL, (96, 96))
