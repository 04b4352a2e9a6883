"""Pictures full of sharp detail for the decoder, which renders of people have too little of: HDRIs as a camera would
show them, leaves of random colour and texture that cover one another, and photographs, where one has any.

Dead leaves (Lee, Mumford, Huang, Occlusion models for natural images, 2001) have the edges and the scale invariance of
photographs; networks that restore pictures learn from them nearly as well as from photographs (Achddou, Gousseau,
Ladjal, Synthetic images as a regularity prior for image restoration neural networks, 2021).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from delit_models.color import linear_to_srgb, luminance, srgb_to_linear
from delit_models.env_map_files import read_env_map
from delit_models.errors import DelitError
from delit_models.image_files import read_image

TILE = 160
"""Side of a sharp picture in pixels."""

_PICTURE_FILES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
# The part of a lat-long's height, around the horizon, that is not stretched much.
_UNSTRETCHED = 0.625
# What the middle pixel's linear luminance is brought to, as a camera would, and by how many stops it then differs.
_MIDDLE, _STOPS = 0.18, 1.5
# Of the leaves, in the pixels of a picture twice as fine as the tile.
_LEAST_RADIUS, _MOST_RADIUS = 4.0, 200.0
_LEAVES, _FINE = 500, 2
# Of so many pictures, so many photographs and so many of leaves.
_OF, _PHOTOGRAPHS, _LEAVES_SHARE = 20, 3, 7
# The largest part of a photograph's shorter side that a tile shows.
_MOST_OF_PHOTOGRAPH = 0.9


def sharp_pictures(count: int, hdris: list[Path], photographs: list[Path], seed: int) -> Tensor:
    """Bytes [count, 3, TILE, TILE], the same for the same seed: of 20, 10 show HDRIs, 7 leaves and 3 photographs, in
    whose place more HDRIs stand if there are none."""
    generator = torch.Generator().manual_seed(seed)
    maps = [rearrange(read_env_map(path).radiance, "h w c -> c h w") for path in hdris]
    taken = [_read_photograph(path) for path in photographs]
    tiles = []
    for number in range(count):
        share = number % _OF
        if share < _PHOTOGRAPHS and taken:
            tile = photograph_tile(taken[_below(len(taken), generator)], generator)
        else:
            tile = hdri_tile(maps[_below(len(maps), generator)], generator)
        if share >= _OF - _LEAVES_SHARE:
            tile = leaves_tile(tile, generator)
        tiles.append((tile.clamp(0, 1) * 255).round().to(torch.uint8))
    return torch.stack(tiles) if tiles else torch.zeros(0, 3, TILE, TILE, dtype=torch.uint8)


def picture_files(folder: Path) -> list[Path]:
    """The pictures in a folder, by name. Raises DelitError where it holds none."""
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in _PICTURE_FILES)
    if not files:
        raise DelitError(f"{folder} holds no picture ({', '.join(_PICTURE_FILES)}).")
    return files


def hdri_tile(radiance: Tensor, generator: torch.Generator) -> Tensor:
    """A part of a lat-long [3, H, W] near its horizon at a random exposure, pixel for pixel: [3, TILE, TILE],
    sRGB-coded in [0, 1]. Where a map is too small for one part, four are put together."""
    if round(_UNSTRETCHED * radiance.shape[-2]) >= TILE:
        return _exposed(_window(radiance, TILE, generator), generator)
    rows = [
        torch.cat([_exposed(_window(radiance, TILE // 2, generator), generator) for _ in range(2)], dim=2)
        for _ in range(2)
    ]
    return torch.cat(rows, dim=1)


def photograph_tile(picture: Tensor, generator: torch.Generator) -> Tensor:
    """A square part of a photograph [3, H, W] in [0, 1], brought down to [3, TILE, TILE]; never enlarged."""
    most = max(TILE, int(_MOST_OF_PHOTOGRAPH * min(picture.shape[-2:])))
    side = round(TILE * (most / TILE) ** float(torch.rand((), generator=generator)))
    top, left = (_below(length - side + 1, generator) for length in picture.shape[-2:])
    part = picture[None, :, top : top + side, left : left + side]
    return F.interpolate(part, size=(TILE, TILE), mode="bilinear", antialias=True, align_corners=False)[0]


def leaves_tile(scene: Tensor, generator: torch.Generator) -> Tensor:
    """Leaves that cover one another in the colours of a scene [3, H, W]: [3, TILE, TILE], like it sRGB-coded."""
    side = TILE * _FINE
    ground = F.interpolate(srgb_to_linear(scene)[None], (side, side), mode="bilinear")[0]
    picture, free = torch.zeros(3, side, side), torch.ones(side, side, dtype=torch.bool)
    noise = _grain(side, generator)
    least = _LEAST_RADIUS * (1 + 3 * float(torch.rand((), generator=generator)) ** 2)
    # From the nearest leaf to the farthest, so that each pixel is drawn once.
    for _ in range(_LEAVES):
        _draw_leaf(picture, free, ground, noise, _radius(least, generator), generator)
    fine = F.avg_pool2d(torch.where(free, ground, picture)[None], _FINE)[0]
    return linear_to_srgb(fine.clamp(0, 1))


def _draw_leaf(
    picture: Tensor, free: Tensor, ground: Tensor, noise: Tensor, radius: float, generator: torch.Generator
) -> None:
    """One leaf of two crossing edges and a round one, where nothing nearer is drawn."""
    side = len(free)
    draw = torch.rand(12, generator=generator).tolist()
    x, y, reach = draw[0] * side, draw[1] * side, math.ceil(radius)
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    box = (slice(top, min(side, int(y) + reach + 1)), slice(left, min(side, int(x) + reach + 1)))
    open_here = free[box]
    if not bool(open_here.any()):
        return
    down = torch.arange(box[0].start, box[0].stop)[:, None] - y
    right = torch.arange(box[1].start, box[1].stop) - x
    cosine, sine = math.cos(math.tau * draw[2]), math.sin(math.tau * draw[2])
    along, across = cosine * right + sine * down, cosine * down - sine * right
    inside = (along**2 + across**2 <= radius**2) & (across.abs() <= radius * (0.08 + 1.2 * draw[3]))
    if draw[4] < 0.4:
        inside &= along.abs() <= radius * (0.2 + 0.6 * draw[5])
    inside &= open_here
    brightness = (draw[6] - 0.5) + (draw[7] - 0.5) * along / radius
    if draw[8] < 0.6:
        brightness += 0.6 * draw[9] ** 2 * noise[box[0], box[1]]
    elif draw[8] < 0.75:
        # Stripes: cloth, shutters, grass.
        brightness += 0.6 * draw[9] ** 2 * torch.sign(torch.sin(across * math.tau / (3 + 20 * draw[10] ** 2)))
    # Its colour is that of its own place, as leaves of one tree have, or of any.
    place = (int(y), int(x)) if draw[11] < 0.6 else (int(draw[10] * side), int(draw[9] * side))
    colour = ground[:, place[0], place[1]]
    picture[(slice(None), *box)] = torch.where(
        inside, colour[:, None, None] * brightness.exp(), picture[(slice(None), *box)]
    )
    free[box] = open_here & ~inside


def _radius(least: float, generator: torch.Generator) -> float:
    """Of density r⁻³ between `least` and _MOST_RADIUS: then a picture looks the same at every scale."""
    ends = least**-2, _MOST_RADIUS**-2
    return (ends[0] - float(torch.rand((), generator=generator)) * (ends[0] - ends[1])) ** -0.5


def _grain(side: int, generator: torch.Generator) -> Tensor:
    """Noise [side, side] of mean 0 and deviation 1 whose amplitude falls with a random power of frequency."""
    spectrum = torch.fft.rfft2(torch.randn(side, side, generator=generator))
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    power = 0.4 + 1.0 * float(torch.rand((), generator=generator))
    grain = torch.fft.irfft2(
        spectrum * (rows**2 + columns**2).clamp(min=1e-4) ** (-power / 2), s=(side, side)
    )
    return (grain - grain.mean()) / grain.std()


def _window(radiance: Tensor, side: int, generator: torch.Generator) -> Tensor:
    height, width = radiance.shape[-2:]
    turned = radiance.roll(_below(width, generator), dims=-1)
    margin = (height - max(side, round(_UNSTRETCHED * height))) // 2
    top = margin + _below(height - 2 * margin - side + 1, generator)
    return turned[:, top : top + side, :side]


def _exposed(light: Tensor, generator: torch.Generator) -> Tensor:
    """Linear light [3, H, W] as a camera shows it: exposed, its white a little off, clipped, sRGB-coded in [0, 1]."""
    middle = luminance(light, dim=0).median().clamp(min=1e-4)
    stops = _STOPS * (2 * float(torch.rand((), generator=generator)) - 1)
    white = torch.randn(3, 1, 1, generator=generator) * 0.2
    return linear_to_srgb((light * (_MIDDLE / middle) * 2 ** (stops + white)).clamp(0, 1))


def _read_photograph(path: Path) -> Tensor:
    picture = rearrange(read_image(path), "h w c -> c h w")
    if min(picture.shape[-2:]) < TILE:
        raise DelitError(
            f"{path} is {picture.shape[2]} × {picture.shape[1]} pixels. Pictures of at least {TILE} are needed."
        )
    return picture[:3].expand(3, -1, -1) if len(picture) != 2 else picture[:1].expand(3, -1, -1)


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
