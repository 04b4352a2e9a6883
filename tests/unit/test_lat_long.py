"""Lat-long geometry: directions and pixels, sampling, rotation, resampling."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from delit_models.errors import DelitError
from delit_models.lat_long import (
    direction_grid,
    direction_to_pixel,
    labelled_test_map,
    pixel_to_direction,
    resample_env,
    rotate_env,
    sample_env,
    solid_angles,
    total_light,
)

unit = st.floats(0.0, 1.0, width=32)
coordinate = st.floats(-1.0, 1.0, width=32)
angle = st.floats(-math.pi, math.pi)


def turn(yaw: float, pitch: float = 0.0) -> torch.Tensor:
    """Rotation about +Y by `yaw`, then about +X by `pitch`."""
    about_y = torch.tensor(
        [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]],
        dtype=torch.float32,
    )
    about_x = torch.tensor(
        [[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]],
        dtype=torch.float32,
    )
    return about_x @ about_y


def smooth_map(height: int = 64, channels: int = 3) -> torch.Tensor:
    """A map that is a low-order function of direction, so that interpolation hardly matters."""
    directions = direction_grid(height, 2 * height)
    mixing = torch.tensor([[0.5, 0.2, -0.3], [-0.1, 0.6, 0.2], [0.3, -0.2, 0.4]])[:, :channels]
    return 1.5 + directions @ mixing


@pytest.mark.parametrize(
    ("uv", "direction"),
    [
        ((0.5, 0.5), (0, 0, -1)),
        ((0.75, 0.5), (1, 0, 0)),
        ((0.25, 0.5), (-1, 0, 0)),
        ((0.0, 0.5), (0, 0, 1)),
        ((1.0, 0.5), (0, 0, 1)),
        ((0.3, 0.0), (0, 1, 0)),
        ((0.9, 1.0), (0, -1, 0)),
        ((0.5, 0.25), (0, math.sqrt(0.5), -math.sqrt(0.5))),
    ],
)
def test_the_axes(uv: tuple[float, float], direction: tuple[float, float, float]) -> None:
    assert pixel_to_direction(torch.tensor(uv)).tolist() == pytest.approx(list(direction), abs=1e-6)


@given(unit, st.floats(0.001, 0.999))
def test_from_a_point_to_a_direction_and_back(u: float, v: float) -> None:
    back = direction_to_pixel(pixel_to_direction(torch.tensor([u, v], dtype=torch.float64)))
    wrapped = abs(back[0].item() - u) % 1.0
    assert min(wrapped, 1 - wrapped) < 1e-9
    assert back[1].item() == pytest.approx(v, abs=1e-9)


@given(coordinate, coordinate, coordinate, st.floats(1e-3, 1e3))
def test_from_a_direction_to_a_point_and_back(x: float, y: float, z: float, length: float) -> None:
    direction = torch.tensor([x, y, z])
    if direction.norm() < 1e-3:
        return
    uv = direction_to_pixel(direction * length)
    assert uv.min() >= 0.0 and uv.max() <= 1.0
    assert torch.allclose(pixel_to_direction(uv), F.normalize(direction, dim=0), atol=2e-6)


@given(angle, st.floats(0.0, 1e-3), st.sampled_from([1.0, -1.0]))
def test_the_poles_are_safe(azimuth: float, distance: float, side: float) -> None:
    direction = torch.tensor([distance * math.cos(azimuth), side, distance * math.sin(azimuth)])
    uv = direction_to_pixel(direction)
    assert torch.isfinite(uv).all()
    assert uv[1].item() == pytest.approx(0.0 if side > 0 else 1.0, abs=1e-3)
    assert torch.allclose(pixel_to_direction(uv), F.normalize(direction, dim=0), atol=2e-6)


def test_the_grid_is_the_formula_at_pixel_centres() -> None:
    v, u = torch.meshgrid((torch.arange(6) + 0.5) / 6, (torch.arange(10) + 0.5) / 10, indexing="ij")
    assert torch.allclose(direction_grid(6, 10), pixel_to_direction(torch.stack([u, v], dim=-1)), atol=1e-6)


@given(st.integers(1, 300), st.integers(1, 300))
def test_solid_angles_sum_to_the_sphere(height: int, width: int) -> None:
    angles = solid_angles(height, width)
    assert angles.shape == (height, width) and (angles > 0).all()
    assert angles.double().sum().item() == pytest.approx(4 * math.pi, rel=1e-6)


def test_solid_angles_weigh_a_hemisphere_of_cosine_light_to_pi() -> None:
    cosine = direction_grid(256, 512)[..., 1].clamp(min=0)
    assert (cosine * solid_angles(256, 512)).double().sum().item() == pytest.approx(math.pi, rel=1e-4)


def test_sampling_at_pixel_centres_gives_the_pixels() -> None:
    env = torch.rand(32, 64, 3)
    assert torch.allclose(sample_env(env, direction_grid(32, 64)), env, atol=1e-4)


def test_longitude_wraps_and_latitude_is_held() -> None:
    env = torch.zeros(8, 16, 1)
    env[:, 0], env[:, -1] = 2.0, 4.0
    seam = pixel_to_direction(torch.tensor([[0.0, 0.5], [1.0, 0.5]]))
    assert sample_env(env, seam).flatten().tolist() == pytest.approx([3.0, 3.0], abs=1e-3)
    poles = torch.zeros(8, 16, 1)
    poles[0], poles[-1] = 5.0, 7.0
    straight_up_and_down = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    assert sample_env(poles, straight_up_and_down).flatten().tolist() == pytest.approx([5.0, 7.0])


def test_sampling_keeps_shape_and_gradient_and_ignores_length() -> None:
    env = torch.rand(8, 16, 3, requires_grad=True)
    directions = torch.randn(4, 5, 3)
    sampled = sample_env(env, directions)
    assert sampled.shape == (4, 5, 3)
    sampled.sum().backward()
    assert env.grad.sum().item() == pytest.approx(4 * 5 * 3, rel=1e-4)
    assert torch.allclose(sample_env(env, directions * 30), sampled, atol=1e-4)


def test_a_quarter_turn_is_a_shift_of_a_quarter() -> None:
    env = torch.rand(16, 32, 3)
    # Turning about +Y by +90 degrees takes ahead (-Z) to the left (-X): the picture moves left.
    assert torch.allclose(rotate_env(env, turn(math.pi / 2)), torch.roll(env, -8, dims=1), atol=1e-4)


@given(angle, st.floats(-1.5, 1.5))
def test_light_moves_where_the_rotation_takes_it(yaw: float, pitch: float) -> None:
    rotation = turn(yaw, pitch)
    env = smooth_map()
    rotated = rotate_env(env, rotation)
    somewhere = F.normalize(torch.tensor([[0.3, 0.5, -0.8], [-0.7, -0.2, 0.6], [0.0, 0.1, 1.0]]), dim=1)
    assert torch.allclose(sample_env(rotated, somewhere @ rotation.T), sample_env(env, somewhere), atol=0.02)
    assert torch.allclose(total_light(rotated), total_light(env), rtol=2e-3)


def test_turning_back_gives_the_map_again() -> None:
    env, rotation = smooth_map(), turn(0.7, 0.4)
    assert torch.allclose(rotate_env(rotate_env(env, rotation), rotation.T), env, atol=0.02)


def test_a_matrix_that_is_no_rotation_is_refused() -> None:
    env = torch.rand(8, 16, 3)
    for matrix in (torch.diag(torch.tensor([-1.0, 1.0, 1.0])), 2 * torch.eye(3)):
        with pytest.raises(DelitError, match="not a rotation"):
            rotate_env(env, matrix)
    with pytest.raises(DelitError, match="3 x 3"):
        rotate_env(env, torch.eye(4))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_resampling_keeps_the_light(height: int, width: int, new_height: int, new_width: int) -> None:
    generator = torch.Generator().manual_seed(height * 41 + width)
    env = torch.exp(4 * torch.randn(height, width, 3, generator=generator))
    result = resample_env(env, new_height, new_width)
    assert result.shape == (new_height, new_width, 3) and result.min() >= 0.0
    assert torch.allclose(total_light(result), total_light(env), rtol=1e-4)


@pytest.mark.parametrize("size", [(16, 32), (7, 15), (128, 256), (48, 64), (64, 20)])
def test_an_even_light_stays_even(size: tuple[int, int]) -> None:
    assert torch.allclose(resample_env(torch.full((48, 96, 3), 2.5), *size), torch.tensor(2.5), rtol=1e-5)


def test_down_resampling_loses_no_small_lamp_and_weighs_by_solid_angle() -> None:
    env = torch.zeros(64, 128, 1)
    env[33, 65] = 1000.0
    small = resample_env(env, 16, 32)
    assert small[8, 16, 0].item() == pytest.approx(
        1000.0 * (solid_angles(64, 128)[33, 65] / solid_angles(16, 32)[8, 16]).item(), rel=1e-4
    )
    assert (small > 0).sum() == 1


def test_up_resampling_is_smooth_across_the_seam() -> None:
    large = resample_env(smooth_map(32), 128, 256)
    assert torch.allclose(large, smooth_map(128), atol=0.03)
    seam_step = (large[:, 0] - large[:, -1]).abs().amax()
    assert seam_step <= (large[:, 1:] - large[:, :-1]).abs().amax() * 1.01


def test_batches_are_resampled_and_the_same_size_is_a_copy() -> None:
    batch = torch.rand(2, 3, 16, 32, 3)
    assert torch.allclose(resample_env(batch, 8, 16)[1, 2], resample_env(batch[1, 2], 8, 16))
    same = resample_env(batch, 16, 32)
    assert torch.equal(same, batch) and same.data_ptr() != batch.data_ptr()


def test_the_light_of_a_large_map_is_summed_exactly() -> None:
    assert total_light(torch.ones(1024, 2048, 3)).tolist() == pytest.approx([4 * math.pi] * 3, rel=1e-6)


def test_unusable_sizes_and_shapes_are_refused() -> None:
    with pytest.raises(DelitError, match="0 x 16"):
        resample_env(torch.rand(8, 16, 3), 0, 16)
    with pytest.raises(DelitError, match="one map is given at a time"):
        sample_env(torch.rand(2, 8, 16, 3), torch.rand(4, 3))
    with pytest.raises(DelitError, match="floating point"):
        resample_env(torch.ones(8, 16, 3, dtype=torch.uint8), 4, 8)


def test_the_labelled_map_is_linear_light_of_the_asked_size() -> None:
    env = labelled_test_map(32)
    assert env.shape == (32, 64, 3) and env.dtype == torch.float32 and env.min() > -1e-6
