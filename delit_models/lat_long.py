"""Lat-long geometry: directions, sampling, rotation, resampling, and other programs' orientations.

Axes are the camera's: +X right, +Y up, the camera looks along -Z. A map has its centre straight ahead of
the camera (what is behind the subject) and +X on its right half, unmirrored. For the point (u, v) of a
map, u rightwards and v downwards in [0, 1], with phi = (u - 1/2) 2 pi and theta = (1/2 - v) pi:

    d = (cos theta sin phi, sin theta, -cos theta cos phi)

Pixel (row, column) of an H x W map has its centre at u = (column + 1/2) / W, v = (row + 1/2) / H.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .errors import DelitError


def pixel_to_direction(uv: Tensor) -> Tensor:
    """Points (u, v) of a map, [..., 2] in [0, 1] -> unit directions [..., 3] in camera axes."""
    phi = (uv[..., 0] - 0.5) * (2 * math.pi)
    theta = (0.5 - uv[..., 1]) * math.pi
    cos_theta = torch.cos(theta)
    return torch.stack([cos_theta * torch.sin(phi), torch.sin(theta), -cos_theta * torch.cos(phi)], dim=-1)


def direction_to_pixel(direction: Tensor) -> Tensor:
    """Directions [..., 3] of any length but zero -> points (u, v) of a map, [..., 2] in [0, 1].

    The inverse of `pixel_to_direction`. Straight behind the camera u is 0 or 1, the same place; at the
    poles u is arbitrary (every u is the same place).
    """
    x, y, z = direction.unbind(-1)
    phi = torch.atan2(x, -z)
    # atan2 keeps full precision near the poles, where arcsine loses half of the digits.
    theta = torch.atan2(y, torch.hypot(x, z))
    uv = torch.stack([phi / (2 * math.pi) + 0.5, 0.5 - theta / math.pi], dim=-1)
    return uv.clamp(0.0, 1.0)


def direction_grid(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """Unit directions of all pixel centres, [height, width, 3] float32."""
    # The angles are float64 on the CPU: exact to the last digit, and some devices (MPS) have no float64.
    phi = ((torch.arange(width, dtype=torch.float64) + 0.5) / width - 0.5) * (2 * math.pi)
    theta = (0.5 - (torch.arange(height, dtype=torch.float64) + 0.5) / height) * math.pi
    sin_phi, cos_phi = (table.float().to(device) for table in (torch.sin(phi), torch.cos(phi)))
    sin_theta, cos_theta = (
        table.float().to(device)[:, None] for table in (torch.sin(theta), torch.cos(theta))
    )
    y = sin_theta.expand(height, width)
    return torch.stack([cos_theta * sin_phi, y, -cos_theta * cos_phi], dim=-1)


def solid_angles(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """Solid angle of every pixel in steradians, [height, width] float32; they sum to 4 pi (exactly, not
    by the midpoint rule: a row spans the difference of its edges' sines)."""
    rows = _row_solid_angles(height, width).float().to(device)
    return rows[:, None].repeat(1, width)


def sample_env(env: Tensor, directions: Tensor) -> Tensor:
    """Radiance of a map [H, W, C] seen along directions [..., 3] -> [..., C] float32.

    Bilinear between pixel centres; longitude wraps around, latitude is held at the first and last row.
    Differentiable in `env`.
    """
    check_lat_long(env, batch=False)
    width = env.shape[1]
    uv = direction_to_pixel(directions.to(env.device, torch.float32))
    image = rearrange(env.float(), "h w c -> 1 c h w")
    wrapped = torch.cat([image[..., -1:], image, image[..., :1]], dim=-1)
    # grid_sample counts from -1 to 1 over the image, which now has a wrapped column on either side.
    x = (2 * uv[..., 0] - 1) * (width / (width + 2))
    y = 2 * uv[..., 1] - 1
    grid = rearrange(torch.stack([x, y], dim=-1).reshape(-1, 2), "n two -> 1 1 n two")
    sampled = F.grid_sample(wrapped, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return rearrange(sampled, "1 c 1 n -> n c").reshape(*directions.shape[:-1], env.shape[2])


def rotate_env(env: Tensor, rotation: Tensor) -> Tensor:
    """Turn the light of a map [H, W, C] by a rotation matrix [3, 3]: what came from d comes from R d.

    Bilinear resampling. Raises DelitError where the matrix is not a rotation.
    """
    check_lat_long(env, batch=False)
    rotation = torch.as_tensor(rotation, dtype=torch.float32, device=env.device)
    if rotation.shape != (3, 3):
        raise DelitError(f"A rotation is a 3 x 3 matrix, got shape {list(rotation.shape)}.")
    identity = torch.eye(3, device=env.device)
    if not torch.allclose(rotation @ rotation.T, identity, atol=1e-4) or torch.det(rotation) < 0:
        raise DelitError(
            f"This matrix is not a rotation (orthonormal, determinant +1): {rotation.tolist()}. "
            "Remove its scale and mirroring."
        )
    # R^T d for row vectors is d R: the light now at d was at R^T d.
    return sample_env(env, direction_grid(*env.shape[:2], device=env.device) @ rotation)


def resample_env(env: Tensor, height: int, width: int) -> Tensor:
    """Bring a map [..., H, W, C] to another size, keeping its light -> [..., height, width, C] float32.

    An axis that shrinks is averaged over exactly the area of sphere that each new pixel covers, so that
    the radiance summed over solid angle is unchanged and no small lamp is lost between samples. An axis
    that grows is interpolated linearly (longitude wraps); the sum over the sphere is then restored by
    one factor per channel.
    """
    check_lat_long(env)
    if height < 1 or width < 1:
        raise DelitError(f"Cannot resample a map to {height} x {width} pixels: both must be at least 1.")
    env = env.float()
    old_height, old_width = env.shape[-3:-1]
    if (old_height, old_width) == (height, width):
        return env.clone()
    rows = _row_weights(old_height, height).float().to(env.device)
    columns = _column_weights(old_width, width).float().to(env.device)
    # As two plain matrix products: einsum would run one narrow product for every row of the map.
    result = rows @ rearrange(env, "... h w c -> ... h (c w)")
    result = rearrange(result, "... h (c w) -> ... h c w", w=old_width) @ columns.T
    result = rearrange(result, "... h c w -> ... h w c").contiguous()
    if height > old_height or width > old_width:
        before, after = total_light(env), total_light(result)
        factor = torch.where(after > 0, before / after.clamp(min=torch.finfo(after.dtype).tiny), 1.0)
        result = result * factor[..., None, None, :]
    return result


def total_light(env: Tensor) -> Tensor:
    """Radiance of a map [..., H, W, C] integrated over the sphere -> [..., C] (4 pi for a white map of 1)."""
    # Row by row, then in float64: millions of float32 additions into one sum would lose a tenth of it.
    rows = env.float().sum(dim=-2).cpu().double()
    total = torch.einsum("h,...hc->...c", _row_solid_angles(*env.shape[-3:-1]), rows)
    return total.float().to(env.device)


def _row_solid_angles(height: int, width: int) -> Tensor:
    """Solid angle of one pixel of each row, [height] float64. A slice of the sphere has the area of its
    height, the difference of its edges' sines of latitude."""
    edge_sine = torch.cos(math.pi * _edges(height))
    return (edge_sine[:-1] - edge_sine[1:]) * (2 * math.pi / width)


def _row_weights(old: int, new: int) -> Tensor:
    """[new, old] weights of latitude rows: by solid angle when shrinking, linear when growing."""
    if new > old:
        return _linear_weights(old, new, wrap=False)
    # A row's share of the sphere is proportional to the difference of its edges' sines.
    return _overlap_weights(*(-torch.cos(math.pi * edges) for edges in (_edges(old), _edges(new))))


def _column_weights(old: int, new: int) -> Tensor:
    """[new, old] weights of longitude columns: by overlap when shrinking, linear when growing."""
    if new > old:
        return _linear_weights(old, new, wrap=True)
    return _overlap_weights(_edges(old), _edges(new))


def _edges(count: int) -> Tensor:
    return torch.arange(count + 1, dtype=torch.float64) / count


def _overlap_weights(old_edges: Tensor, new_edges: Tensor) -> Tensor:
    """[new, old] share of each new interval that each old interval covers; rows sum to 1."""
    upper = torch.minimum(new_edges[1:, None], old_edges[None, 1:])
    lower = torch.maximum(new_edges[:-1, None], old_edges[None, :-1])
    overlap = (upper - lower).clamp(min=0.0)
    return overlap / overlap.sum(dim=1, keepdim=True)


def _linear_weights(old: int, new: int, wrap: bool) -> Tensor:
    """[new, old] weights of linear interpolation between pixel centres."""
    position = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
    first = torch.floor(position).long()
    fraction = position - first
    neighbours = torch.stack([first, first + 1], dim=1)
    neighbours = neighbours % old if wrap else neighbours.clamp(0, old - 1)
    weights = torch.zeros(new, old, dtype=torch.float64)
    return weights.scatter_add_(1, neighbours, torch.stack([1 - fraction, fraction], dim=1))


ORIENTATIONS = ("delit", "blender", "openexr", "unreal", "nuke", "three.js", "cinema 4d")
"""Names of the orientation presets; `to_orientation` says what each one is."""

# Where straight ahead of the camera (-Z in camera axes) lands in each preset, as u.
_AHEAD_U: Mapping[str, float] = MappingProxyType(
    {
        "delit": 0.5,
        "blender": 0.25,
        "openexr": 0.0,
        "unreal": 0.75,
        "nuke": 0.5,
        "three.js": 0.25,
        "cinema 4d": 0.25,
    }
)
_MIRRORED = frozenset({"cinema 4d"})


def to_orientation(env: Tensor, preset: str) -> Tensor:
    """Turn a map [..., H, W, C] from camera axes to the layout that another program expects.

    With the result loaded unrotated, light comes from the same side as seen by a camera that looks along
    the program's own forward axis. Each preset moves whole columns ("cinema 4d" mirrors them as well), so
    `from_orientation` undoes it exactly; "blender", "unreal", "three.js" and "cinema 4d" turn by a quarter, which
    needs a width that 4 divides.

    preset    centre of map  right of centre  camera forward, right, up
    delit     -Z (ahead)     +X               -Z, +X, +Y, right-handed (this module's formula)
    blender   +X             -Y               +Y, +X, +Z, right-handed: the front view (numpad 1) of a
              Z-up scene with a world Environment Texture, "Equirectangular", which reads
              u = 1/2 - atan2(y, x) / 2 pi, v (upwards) = 1/2 + elevation / pi
    openexr   +Z             -X               -Z, +X, +Y, right-handed: the `envmap = latlong` attribute
              of OpenEXR (longitude +pi at the left edge, longitude 0 along +Z, longitude pi/2 along +X);
              USD's DomeLight is defined by it, with the USD camera looking along -Z; Houdini's and Arnold's
              read a map as USD's does. (OpenEXR puts the
              outermost pixels' centres on the seam and the poles, renderers their outer edges: half a
              pixel there, nothing at the centre.)
    unreal    -Y             +X               +X, +Y, +Z, left-handed: a .hdr imported as a TextureCube
              from a long-lat picture (Sky Light, HDRI Backdrop, angle 0), whose importer reads
              u = 1/2 + atan2(x, -y) / 2 pi. (It imports .exr as a flat texture: write .hdr.) V-Ray's dome
              light, spherical, reads the same file in Maya and Houdini (-Z ahead) and Blender (+Y ahead):
              u = 1 - atan2(y, x) / 2 pi with Z up
    nuke      -Z             +X               -Z, +X, +Y, right-handed: SphericalTransform, and a
              latlong rendered by a camera at rest, whose centre is the cube face -Z. Same as delit
    three.js  +X             +Z              -Z, +X, +Y, right-handed: a texture with
              EquirectangularReflectionMapping as scene.environment or background, which reads
              u = 1/2 + atan2(z, x) / 2 pi, v (upwards) = 1/2 + asin(y) / pi; Redshift's dome light in
              Maya reads a map the same way
    cinema 4d -X             -Z              +Z, +X, +Y, left-handed: the Sky object with a material in spherical
              projection, offset 0, length 100%, which reads u = atan2(z, x) / 2 pi. It wraps a picture that reads
              right from outside, so this one is mirrored

    Raises DelitError for an unknown preset or a width that cannot be turned.
    """
    return _turn(env, preset, +1)


def from_orientation(env: Tensor, preset: str) -> Tensor:
    """The exact inverse of `to_orientation`: a map made for another program -> camera axes."""
    return _turn(env, preset, -1)


def check_orientation(preset: str) -> None:
    """Raise DelitError unless `preset` is one of ORIENTATIONS."""
    if preset not in _AHEAD_U:
        raise DelitError(f"Unknown orientation {preset!r}. Choose one of: {', '.join(ORIENTATIONS)}.")


def _turn(env: Tensor, preset: str, sign: int) -> Tensor:
    check_orientation(preset)
    check_lat_long(env)
    width = env.shape[-2]
    columns = (_AHEAD_U[preset] - 0.5) * width
    if columns != int(columns):
        raise DelitError(
            f"The {preset!r} orientation turns the map by a quarter, but a width of {width} pixels is not "
            f"a multiple of 4. Resample it first, to {width // 4 * 4} x {width // 4 * 2} for instance."
        )
    if preset in _MIRRORED:
        # In a mirror what was moved one way goes the other: the same two steps undo themselves.
        return torch.roll(env.flip(-2), int(columns), dims=-2)
    return torch.roll(env, sign * int(columns), dims=-2)


def check_lat_long(env: Tensor, batch: bool = True) -> None:
    """Raise DelitError unless `env` is [H, W, C] (with leading dimensions too where `batch`), not empty."""
    dimensions_fit = env.ndim >= 3 if batch else env.ndim == 3
    if not dimensions_fit or 0 in env.shape or not env.is_floating_point():
        layout = "[..., H, W, channels]" if batch else "[H, W, channels]"
        raise DelitError(
            f"Expected an environment map of shape {layout} in floating point, got {list(env.shape)} "
            f"{env.dtype}. Channels come last, and one map is given at a time where no batch is allowed."
        )


def check_env_shape(env: Tensor, channels: tuple[int, ...] = (3,), batch_only: bool = False) -> None:
    """Raise DelitError unless `env` is [..., H, 2H, C] (where `batch_only`, [B, H, 2H, C]) in floating point, with one
    of these numbers of channels."""
    check_lat_long(env)
    fits = env.shape[-1] in channels and env.shape[-2] == 2 * env.shape[-3]
    if not fits or (batch_only and env.ndim != 4):
        raise DelitError(
            f"An environment map is twice as wide as high with three channels, this one is {env.shape[-2]} x "
            f"{env.shape[-3]} with {env.shape[-1]}. Convert it to lat-long (equirectangular) first."
        )


TEST_MAP_LABELS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = (
    MappingProxyType(
        {
            "ahead": ((0.0, 0.0, -1.0), (1.0, 1.0, 1.0)),
            "behind": ((0.0, 0.0, 1.0), (1.0, 0.0, 1.0)),
            "right": ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0)),
            "left": ((-1.0, 0.0, 0.0), (0.0, 1.0, 1.0)),
            "up": ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
            "down": ((0.0, -1.0, 0.0), (1.0, 1.0, 0.0)),
            "ahead_right_up": ((1.0, 1.0, -1.0), (0.0, 1.0, 0.0)),
        }
    )
)
"""Label -> (direction in camera axes, colour) of the patches of `labelled_test_map`."""


def labelled_test_map(height: int = 256) -> Tensor:
    """A map that shows which way it is turned, [height, 2 height, 3] float32, linear.

    A round patch 15 degrees in radius in each direction of TEST_MAP_LABELS (ahead is white, right is red,
    left is cyan, up is blue, down is yellow, behind is magenta, and green is up to the right ahead, which no
    mirroring keeps in place), on a grey that is lighter above the horizon.
    """
    if height < 16:
        raise DelitError(f"A labelled test map needs a height of at least 16 pixels, got {height}.")
    directions = direction_grid(height, 2 * height)
    env = torch.where(directions[..., 1:2] > 0, 0.2, 0.05).expand(-1, -1, 3).clone()
    for direction, color in TEST_MAP_LABELS.values():
        axis = F.normalize(torch.tensor(direction), dim=0)
        env[directions @ axis > math.cos(math.radians(15))] = torch.tensor(color)
    return env
