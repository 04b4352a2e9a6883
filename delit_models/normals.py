"""Normal maps as pictures: reading their coding, and telling where they say nothing.

Normals are in camera axes (see lat_long): +X right, +Y up, and +Z towards the camera, which looks along -Z. A normal
map codes each component n as n / 2 + 1/2. Programs differ in green alone: OpenGL's maps (Blender, MoGe's normal_opengl)
have +Y up, DirectX's (Unreal, MoGe's normal_directx) have it down.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .errors import DelitError
from .images import three_channels

NormalConvention = Literal["OpenGL (+Y up)", "DirectX (-Y up)"]
OPENGL: NormalConvention = "OpenGL (+Y up)"

KNOWN_LENGTHS = (0.5, 1.5)
"""Lengths that a coded normal has, rounding and soft edges allowed for. Grey (0.5) decodes to 0, black and white to
1.7: what normal maps have around the subject."""

TOWARDS_CAMERA_SHARE = 0.5
"""The least share of normals that must face the camera: of a surface that it sees, nearly all do."""


def decode_normals(
    coded: Tensor, convention: NormalConvention, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Normal maps → unit normals, and where they are known.

    Args:
        coded: [B, h, w, 3 or 4] in [0, 1].
        convention: which way green goes.
        size: (height, width) of the pictures that they belong to; maps of another size are resized.

    Returns:
        normals [B, H, W, 3] in camera axes, straight to the camera where unknown; known [B, H, W] bool.

    Raises:
        DelitError: for an unknown convention, a broken picture, one without any normal, or one whose normals look away
            from the camera.
    """
    if convention not in get_args(NormalConvention):
        raise DelitError(
            f"“{convention}” is no normal map convention; choose from {', '.join(get_args(NormalConvention))}."
        )
    vectors = three_channels(coded) * 2 - 1
    if convention != OPENGL:
        vectors = vectors * vectors.new_tensor([1.0, -1.0, 1.0])
    vectors = torch.where(_is_known(vectors)[..., None], vectors, 0.0)
    if vectors.shape[1:3] != size:
        vectors = rearrange(vectors, "b h w c -> b c h w")
        vectors = F.interpolate(vectors, size, mode="bilinear", antialias=True, align_corners=False)
        vectors = rearrange(vectors, "b c h w -> b h w c")
    known = _is_known(vectors)
    _check_facing(vectors, known)
    forward = vectors.new_tensor([0.0, 0.0, 1.0])
    return F.normalize(torch.where(known[..., None], vectors, forward), dim=-1), known


def encode_normals(normals: Tensor) -> Tensor:
    """Unit normals [..., 3] in camera axes → a normal map in [0, 1], +Y up; zero vectors become grey."""
    return (normals * 0.5 + 0.5).clamp(0, 1)


def _is_known(vectors: Tensor) -> Tensor:
    shortest, longest = KNOWN_LENGTHS
    length = vectors.norm(dim=-1)
    return (length >= shortest) & (length <= longest)


def _check_facing(vectors: Tensor, known: Tensor) -> None:
    for index, (single, seen) in enumerate(zip(vectors, known, strict=True)):
        if not seen.any():
            raise DelitError(
                f"Normal map {index} holds no normal: every pixel is black, white or grey. Connect a normal map, coded "
                "as n / 2 + 1/2, of the same picture."
            )
        facing = (single[..., 2][seen] > 0).float().mean().item()
        if facing < TOWARDS_CAMERA_SHARE:
            raise DelitError(
                f"Only {facing:.0%} of the normals of map {index} face the camera; of what a camera sees, nearly all "
                "do. Delit needs camera-space normals with +Z (blue) towards the camera, not world- or object-space "
                "ones and no depth map."
            )
