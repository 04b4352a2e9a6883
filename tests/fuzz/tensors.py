"""Tensors as other nodes may hand them on: pictures, masks, latents, clips, codes of light and maps of any shape, kind,
range and stride, at the pipeline and at its stages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from hypothesis import strategies as st
from torch import Tensor

from delit_models import light_snippets
from delit_models.coding import open_source
from delit_models.color import auto_exposure, tone_map
from delit_models.env_codec import decode_env, encode_env
from delit_models.env_map_transform import EnvMapTransform, transform_env_map
from delit_models.heads import DelitHeads
from delit_models.images import Framing
from delit_models.key_lights import find_key_lights
from delit_models.latent_notes import LatentNotes, fit_source, make_latent, open_latent
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.stages import decode_light, encode_images, finish, picture_matte

from .harness import Case, Fault, Kind
from .picture_files import sound
from .weights_files import SMALL_HEADS

DTYPES = ["float32"] * 30 + ["float16", "bfloat16", "float64", "uint8", "int64", "bool", "complex64"]
FILLS = ["noise"] * 30 + [
    "black",
    "white",
    "grey",
    "one NaN",
    "one infinite",
    "negative",
    "bright",
    "huge",
    "faint",
    "steps",
]
_SIDES = st.sampled_from([64, 64, 64, 65, 65, 72, 72, 100, 100, 130, 130, 63, 8, 1, 0, 7])


class BlockCodec:
    """A VAE that costs nothing: means of 8 × 8 pixels in 16 channels, and back."""

    def parameters(self) -> Iterator[Tensor]:
        yield torch.zeros(1)

    def encode(self, x: Tensor) -> Tensor:
        if x.ndim == 5:
            frames = self.encode(rearrange(x[:, :, ::4], "b c t h w -> (b t) c h w"))
            return rearrange(frames, "(b t) c h w -> b c t h w", b=len(x))
        return F.avg_pool2d(x, 8).repeat(1, 6, 1, 1)[:, :16]

    def decode(self, z: Tensor) -> Tensor:
        if z.ndim == 5:
            frames = self.decode(rearrange(z, "b c t h w -> (b t) c h w"))
            frames = rearrange(frames, "(b t) c h w -> b c t h w", b=len(z))
            return frames.repeat_interleave(4, dim=2)[:, :, 3:]
        return F.interpolate(z[:, :3], scale_factor=8)


@lru_cache
def cheap_pipeline() -> DelitPipeline:
    torch.manual_seed(0)
    heads = DelitHeads(SMALL_HEADS).eval().requires_grad_(False)
    return DelitPipeline(BlockCodec(), heads)


def tensor(shape: tuple[int, ...], dtype: str, fill: str, stride: str, seed: int) -> Tensor:
    """A tensor as described; the same description gives the same tensor."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(shape, generator=generator)
    if fill == "steps":
        values = (values * 3).floor() / 2
    scale = {
        "black": 0,
        "white": 0,
        "grey": 0,
        "negative": -1,
        "bright": 30,
        "huge": 3e38,
        "faint": 1e-42,
    }.get(fill, 1)
    values = values * scale + {"white": 1.0, "grey": 0.5}.get(fill, 0.0)
    if fill.startswith("one") and values.numel():
        values.view(-1)[seed % values.numel()] = torch.nan if fill == "one NaN" else torch.inf
    values = values.to(getattr(torch, dtype))
    if stride == "flipped" and values.ndim:
        return values.flip(0)
    if stride == "transposed" and values.ndim >= 2:
        return values.transpose(0, 1).contiguous().transpose(0, 1)
    return values.requires_grad_() if stride == "with gradient" and values.is_floating_point() else values


_STRIDES = st.sampled_from(["plain", "plain", "flipped", "transposed", "with gradient"])


@st.composite
def described(draw: st.DrawFn, shape: st.SearchStrategy[tuple[int, ...]], odd: bool = True) -> tuple:
    """What `tensor` takes. Without `odd`, floats between 0 and 1 of a plain kind."""
    size = draw(shape)
    if not odd:
        return (size, "float32", "noise", "plain", draw(st.integers(0, 99)))
    told = (
        draw(st.sampled_from(DTYPES)),
        draw(st.sampled_from(FILLS)),
        draw(_STRIDES),
        draw(st.integers(0, 99)),
    )
    return (size, *told)


def picture_shapes(
    channels: tuple[int, ...] = (3,) * 12 + (1, 4, 4, 2, 0),
) -> st.SearchStrategy[tuple[int, ...]]:
    usual = st.tuples(st.sampled_from([1, 1, 1, 2, 5, 0]), _SIDES, _SIDES, st.sampled_from(channels))
    others = st.lists(st.integers(0, 70), max_size=5).map(tuple).filter(lambda shape: _count(shape) < 10**6)
    return st.one_of(usual, usual, usual, usual, others)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= max(side, 1)
    return count


_ODD_NUMBERS = st.sampled_from([*[0] * 10, 1, -1, 0.5, 16, -16, 1e6, -1e6, float("nan"), float("inf"), 200])


@st.composite
def options(draw: st.DrawFn) -> DelitOptions:
    return DelitOptions(
        working_size=draw(st.sampled_from([*[0] * 6, 64, 72, 128, 1, -8, 65, 4096])),
        detail_transfer=draw(st.booleans()),
        area=draw(st.sampled_from(["subject", "picture"] * 6 + ["face"])),
        outside=draw(st.sampled_from(["source", "black", "transparent"] * 6 + ["white"])),
        clip=draw(st.booleans()),
        env_pooling=draw(st.sampled_from(["shot", "frame"] * 6 + ["none"])),
        coding=draw(st.sampled_from(["sRGB"] * 10 + ["linear Rec.709", "ACEScg"] * 3 + ["log"])),
        exposure=draw(_ODD_NUMBERS),
        metered=draw(st.sampled_from([*[None] * 12, 1.0, 0.0, -1.0, float("nan"), float("inf"), 1e30])),
    )


@st.composite
def pipeline_cases(draw: st.DrawFn) -> Case:
    image = draw(described(picture_shapes()))
    mask = None
    if draw(st.booleans()):
        sides = st.sampled_from([image[0][1:3], image[0][1:3], (64, 64), (1, 1), (0, 5)])
        shape = st.tuples(st.sampled_from([1, 1, 2, 5, 0]), sides).map(lambda told: (told[0], *told[1]))
        mask = draw(described(shape | st.sampled_from([(64, 64), (), (1, 1, 64, 64)])))
    chosen = draw(options())
    return Case(
        f"pipeline: image {image}, mask {mask}, {chosen}", lambda folder: _pipeline(image, mask, chosen)
    )


def _pipeline(image: tuple, mask: tuple | None, chosen: DelitOptions) -> None:
    pictures = tensor(*image)
    before = pictures.detach().clone()
    result = cheap_pipeline()(pictures, None if mask is None else tensor(*mask), chosen)
    if not torch.equal(before, pictures.detach()):
        raise Fault("the pipeline changed the pictures that it was given")
    if result.flat.shape[:3] != pictures.shape[:3] or result.flat.shape[-1] not in (3, 4):
        raise Fault("the pipeline gave a flat-lit image of another size")
    for name in ("flat", "gain", "env", "matte"):
        sound(getattr(result, name).float(), f"the pipeline's {name}", None if name == "flat" else 0)
    if chosen.coding == "sRGB":
        sound(result.flat, "the pipeline's flat", 0, 1)
        bright = pictures.detach().float().mean() > 0.1
        if bright and chosen.outside != "black" and result.flat[..., :3].max() == 0:
            raise Fault("the pipeline made a black picture")


_STAGES: dict[str, tuple[Callable[..., Any], st.SearchStrategy]] = {}


def _stage(name: str, *arguments: st.SearchStrategy) -> Callable:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _STAGES[name] = (function, st.tuples(*arguments))
        return function

    return register


_MAP_SHAPES = st.sampled_from(
    [
        (16, 32, 3),
        (1, 16, 32, 3),
        (2, 8, 16, 3),
        (5, 10, 3),
        (16, 16, 3),
        (16, 32, 1),
        (0, 0, 3),
        (1, 2, 3),
        (3,),
    ]
)
_MAPS = described(_MAP_SHAPES)
_ANGLES = st.sampled_from([0.0, 90.0, 11.25, 37.3, -720.0, float("nan"), float("inf"), 1e20])
_CODES = described(
    st.sampled_from([(1, 4, 128, 256), (1, 2, 4, 16, 32), (1, 3, 16, 32), (0, 4, 8, 8), (4, 8, 16), (5,)])
)
_LATENT_SHAPES = [(1, 16, 1, 8, 8), (1, 16, 3, 8, 8), (2, 16, 1, 8, 9), (2, 16, 2, 8, 8), (1, 4, 8, 8)]
_LATENTS = described(
    st.sampled_from([*_LATENT_SHAPES, (1, 16, 8, 8), (0, 16, 1, 8, 8), (1, 16, 1, 0, 8), ()])
)


@_stage("transform", _MAPS, _ANGLES, _ANGLES, _ODD_NUMBERS, st.sampled_from([6504, 1700, 0, 1e9, float("nan")]),
        st.sampled_from([0, 0, 8, 5, -3]), st.sampled_from(["delit", "blender", "unreal", "maya"]))  # fmt: skip
def _transform(
    env: tuple, yaw: float, roll: float, number: float, kelvin: float, height: int, target: str
) -> None:
    transform = EnvMapTransform(
        yaw=yaw, roll=roll, exposure=number, temperature=kelvin, height=height, target=target
    )
    sound(transform_env_map(tensor(*env), transform), "transform_env_map", 0)


@_stage("key lights", _MAPS, st.sampled_from([4, 1, 0, -1]), _ODD_NUMBERS)
def _key_lights(env: tuple, most: int, share: float) -> None:
    lighting = find_key_lights(tensor(*env), most, share)
    for write in (
        light_snippets.to_json,
        light_snippets.to_text,
        light_snippets.to_blender,
        light_snippets.to_usd,
    ):
        if re.search(r"\b(nan|inf)\b", write(lighting).lower()):
            raise Fault(f"{write.__name__} wrote NaN")


@_stage("preview", _MAPS)
def _preview(env: tuple) -> None:
    maps = tensor(*env)
    if maps.ndim < 3 or maps.shape[-1] != 3 or not maps.numel() or not maps.is_floating_point():
        return
    sound(tone_map(maps), "tone_map", 0, 1)
    sound(auto_exposure(maps.nan_to_num().clamp(min=0)), "auto_exposure", 0)


@_stage("code of light", _MAPS)
def _code(env: tuple) -> None:
    sound(encode_env(tensor(*env).movedim(-1, -3) if len(env[0]) >= 3 else tensor(*env)), "encode_env", 0, 1)


@_stage(
    "decode light", _CODES, st.sampled_from(["shot", "frame", "x"]), st.sampled_from([None, 1, 5, 0, -1, 50])
)
def _decode(code: tuple, pooling: str, frames: int | None) -> None:
    values = tensor(*code)
    decode_env(values)
    sound(decode_light(values, pooling, frames), "decode_light", 0)


@_stage("latent", _LATENTS, st.booleans())
def _latent(described_latent: tuple, noted: bool) -> None:
    values = tensor(*described_latent)
    notes = LatentNotes(Framing((70, 64), (70, 64)), 2, relit=values) if noted else None
    z, kept = open_latent({"samples": values, "delit": notes})
    make_latent(z, kept)
    if z.is_floating_point() and torch.isfinite(z).all() and z.abs().max() < 100:
        for part in cheap_pipeline().heads(z.float()):
            sound(part, "heads")


@_stage(
    "finish",
    described(picture_shapes()),
    described(picture_shapes()),
    st.booleans(),
    st.sampled_from([64, 72]),
)
def _finish(flat: tuple, source: tuple, transfer: bool, side: int) -> None:
    opened = open_source(tensor(*source))
    working = torch.rand(max(len(opened.coded), 1), 3, side, side)
    done = finish(working, opened, working * 0.9 if transfer else None)
    sound(done.flat, "finish", 0, 1)


@_stage("encode", described(picture_shapes()), st.sampled_from([None, 64, 0, -1, 10**6]), st.booleans())
def _encode(image: tuple, longest: int | None, clip: bool) -> None:
    z, framing = encode_images(BlockCodec(), tensor(*image), longest, clip)
    sound(z, "encode_images")
    fit_source(tensor(*image), None, framing, noted=False)


@_stage(
    "matte",
    described(st.sampled_from([(1, 1, 8, 8), (2, 1, 8, 8), (1, 1, 3, 8, 8)]), odd=False),
    described(picture_shapes()),
)
def _matte(matte: tuple, source: tuple) -> None:
    pictures = open_source(tensor(*source))
    count = len(pictures.coded)
    if matte[0][0] == count or (len(matte[0]) == 5 and count <= 9):
        sound(picture_matte(tensor(*matte), pictures, None), "picture_matte", 0, 1)


@st.composite
def stage_cases(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(sorted(_STAGES)))
    function, arguments = _STAGES[name]
    chosen = draw(arguments)
    return Case(f"{name}: {chosen}", lambda folder: function(*chosen))


KIND = Kind("tensors", st.one_of(pipeline_cases(), stage_cases()), 1200, 60)
