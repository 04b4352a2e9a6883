"""Closure: how well an environment map explains a picture, as a map and as numbers.

The flat-lit picture is put into the found light (relight.py) and compared with the source. Both are divided by the
flat-lit picture first: what is compared is the shading, in stops. It is compared over cells, not pixels, so that pores,
hair and noisy normals do not count; and shading is only told apart down to FLOOR, where light between surfaces, which
relighting leaves out, takes over.

The surface is taken to be matte. On rendered people that tells the true map from a turned one more surely than with a
glossy part, which shadows of the subject on itself would have to hide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .coding import SRGB, Coding, to_rec709
from .color import luminance
from .detail_transfer import resize_area
from .errors import DelitError
from .images import check_images, three_channels
from .normals import OPENGL, NormalConvention, decode_normals
from .relight import (
    RelightOptions,
    check_env_maps,
    common_count,
    fitted_mask,
    light_tables,
    one_of,
    shade,
    to_coded,
    to_linear,
)

CELLS = 64
"""Cells along the longest side of a picture."""

FLOOR = 1 / 16
"""Share of the picture's mean shading that is added to every shading before its logarithm is taken."""

LARGEST_STOPS = 2.0
"""Differences over this count as this: a cast shadow or a lamp in view is no worse for being deeper or brighter."""

FEWEST_CELLS = 16
CLIPPED = 0.98
"""sRGB code from which on a pixel may have been brighter than it shows."""

DARKEST = 1 / 64
"""Share of the flat-lit picture's mean below which a pixel says nothing of the light."""

STEADY = 0.05
"""Stops of shading that are not told from none: coding alone makes as much."""

GOOD = 0.4
"""Explained share from which on the light counts as found: most rendered people reach it under their true map, hardly
any under a map that is turned (benchmarks/closure.py)."""

# Stops of residual → sRGB; between them it is interpolated.
FALSE_COLORS: tuple[tuple[float, tuple[float, float, float]], ...] = (
    (-2.0, (0.10, 0.15, 0.65)),
    (-1.0, (0.15, 0.60, 0.90)),
    (-0.25, (0.55, 0.58, 0.60)),
    (0.25, (0.55, 0.58, 0.60)),
    (1.0, (0.95, 0.75, 0.15)),
    (2.0, (0.80, 0.10, 0.10)),
)


@dataclass(frozen=True)
class Closure:
    """How well the light of one picture closes.

    Attributes:
        explained: share of the shading's square that the map explains and the best even light does not, -1 to 1 (lower
            is told as -1): 1 is all, 0 no more than even light, below 0 it is worse than that.
        correlation: of the shading found and predicted, in stops, -1 to 1; blind to exposure and contrast.
        residual: root mean square of the difference in stops; over LARGEST_STOPS counts as that.
        shading: the same of the source's shading around its mean: what there was to explain.
        exposure: median of source over prediction, in stops.
        color: degrees between the mean colours (linear Rec.709) of the source's and the predicted shading.
    """

    explained: float
    correlation: float
    residual: float
    shading: float
    exposure: float
    color: float

    def text(self) -> str:
        """The numbers in words, in one line."""
        return (
            f"{self._verdict()} Explained {self.explained:.2f} (1 is all, 0 no more than even light), correlation "
            f"{self.correlation:.2f}. It leaves {self.residual:.2f} stops of shading, even light {self.shading:.2f}; "
            f"the source is {abs(self.exposure):.2f} stops {'brighter' if self.exposure >= 0 else 'darker'} than the "
            f"prediction; colour {self.color:.1f} degrees off."
        )

    def _verdict(self) -> str:
        if self.shading < STEADY:
            return "Nothing to explain: the flat-lit image differs from the source by no light."
        if self.explained >= GOOD:
            return "The light explains the picture."
        if self.explained > 0:
            return "The light explains the picture in part."
        return "The light explains the picture no better than even light would: check it before you use it."


@dataclass(frozen=True)
class ClosureResult:
    """What `closure` gives of a batch.

    Attributes:
        map: [B, H, W, 3] sRGB: the residual in false colour (FALSE_COLORS); a dim picture where nothing is
            compared.
        relit: [B, H, W, 3], the flat-lit pictures in the found light, coded as the source.
        pictures: the numbers of each.
    """

    map: Tensor
    relit: Tensor
    pictures: tuple[Closure, ...]


@dataclass(frozen=True)
class _Comparison:
    """What one comparison needs, in linear Rec.709, [H, W, 3] each, and what of it counts, [H, W, 1]."""

    source: Tensor
    flat: Tensor
    predicted: Tensor
    counts: Tensor


def closure(
    source: Tensor,
    flat: Tensor,
    normals: Tensor,
    env: Tensor,
    mask: Tensor | None = None,
    coding: Coding = SRGB,
    convention: NormalConvention = OPENGL,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClosureResult:
    """Compare pictures with their flat-lit versions in the light that was found for them.

    Args:
        source, flat: [B, H, W, C], coded alike. normals: [B, h, w, 3], a normal map (normals.py). env: [B, h, 2h, 3],
            linear Rec.709. mask: [B, h, w], 1 where to compare. Of each there is one, or as many as of the others.
        coding: of source and flat. Of plates, whose flat-lit picture keeps their exposure, the exposure does not count.

    Raises:
        DelitError: for a count, a shape or a value that does not fit, and where there is too little to compare.
    """
    source, flat = (check_images(x) if coding == SRGB else three_channels(x) for x in (source, flat))
    if source.shape[1:] != flat.shape[1:]:
        raise DelitError(
            f"The source is {source.shape[2]}×{source.shape[1]} pixels, the flat-lit image {flat.shape[2]}×"
            f"{flat.shape[1]}. Connect the picture that the flat-lit image was made from."
        )
    check_env_maps(env)
    count = common_count(source=source, flat=flat, normals=normals, env=env, mask=mask)
    directions, known = decode_normals(normals, convention, tuple(source.shape[1:3]))
    masks = None if mask is None else fitted_mask(mask, source)
    options = RelightOptions(specular=0.0, coding=coding)
    maps, pictures, relit, tables = [], [], [], None
    for index in range(count):
        progress(index, count)
        if tables is None or len(env) > 1:
            tables = light_tables(one_of(env, index), options)
        linear, albedo = (to_linear(one_of(x, index), coding) for x in (source, flat))
        seen = one_of(known, index)[..., None].to(linear)
        predicted, _ = shade(albedo, one_of(directions, index), seen, tables, options)
        relit.append(to_coded(predicted, coding))
        if masks is not None:
            seen = seen * (one_of(masks, index) > 0.5)
        if coding == SRGB:
            seen = seen * (one_of(source, index).amax(-1, keepdim=True) < CLIPPED)
        rec709 = (to_rec709(x, coding).clamp(min=0) for x in (linear, albedo, predicted))
        numbers, residual = _compare(_Comparison(*rec709, seen), exposure_counts=coding == SRGB)
        pictures.append(numbers)
        shown = to_coded(to_rec709(linear, coding), SRGB)
        maps.append(_false_color(residual, shown))
    progress(count, count)
    return ClosureResult(torch.stack(maps), torch.stack(relit), tuple(pictures))


def _compare(pair: _Comparison, exposure_counts: bool) -> tuple[Closure, Tensor]:
    """The numbers, and the residual in stops, [h, w] over the cells, NaN where nothing is compared."""
    level = luminance(pair.flat)[..., None]
    mean = (level * pair.counts).sum() / pair.counts.sum().clamp(min=1)
    counts = pair.counts * (level > DARKEST * mean)
    share = _cells(counts)[..., 0]
    seen = share > 0.5
    if seen.sum() < FEWEST_CELLS or mean <= 0:
        raise DelitError(
            "There is too little to compare: within the mask, nearly every pixel is clipped, black or without a "
            "normal. Check the mask and the normal map, or give a picture that is not overexposed."
        )
    weight = share[seen] / share[seen].sum()
    source, flat, predicted = (_cells(x * counts)[seen] for x in (pair.source, pair.flat, pair.predicted))
    color = _angle(*(((x / flat.clamp(min=1e-6)) * weight[:, None]).sum(0) for x in (source, predicted)))
    source, flat, predicted = (luminance(x) for x in (source, flat, predicted))
    found, expected = source / flat, predicted / flat
    floor = FLOOR * (found * weight).sum()
    if not exposure_counts:
        expected = expected * ((found * weight).sum() / (expected * weight).sum().clamp(min=1e-12))
    found, expected = torch.log2(found + floor), torch.log2(expected + floor)
    difference = found - expected
    around = found - (found * weight).sum()
    residual, shading = (_root_mean_square(x, weight) for x in (difference, around))
    numbers = Closure(
        explained=max(-1.0, (shading**2 - residual**2) / (shading**2 + STEADY**2)),
        correlation=_correlation(around, expected - (expected * weight).sum(), weight),
        residual=residual,
        shading=shading,
        exposure=difference.median().item(),
        color=color,
    )
    cells = torch.full_like(share, math.nan)
    cells[seen] = difference
    return numbers, cells


def _cells(picture: Tensor) -> Tensor:
    """[H, W, C] → means over cells, [h, w, C] with CELLS along the longest side; smaller pictures stay."""
    height, width = picture.shape[:2]
    scale = min(1.0, CELLS / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return rearrange(resize_area(rearrange(picture, "h w c -> 1 c h w"), size), "1 c h w -> h w c")


def _root_mean_square(stops: Tensor, weight: Tensor) -> float:
    return (stops.clamp(-LARGEST_STOPS, LARGEST_STOPS).square() * weight).sum().sqrt().item()


def _correlation(a: Tensor, b: Tensor, weight: Tensor) -> float:
    """Of two series [N] with a mean of 0; 0 where one of them is steady."""
    spread = ((a.square() * weight).sum() * (b.square() * weight).sum()).sqrt()
    return ((a * b * weight).sum() / spread).item() if spread > STEADY**2 else 0.0


def _angle(a: Tensor, b: Tensor) -> float:
    """Degrees between two colours [3]; 0 where one is black."""
    # Some devices (MPS) have no float64.
    a, b = (F.normalize(colour.cpu().double(), dim=0) for colour in (a, b))
    return math.degrees(math.atan2((a - b).norm().item(), (a + b).norm().item())) * 2 if (a @ b) > 0 else 0.0


def _false_color(residual: Tensor, picture: Tensor) -> Tensor:
    """Residuals of cells [h, w] in stops, NaN where there is none → [H, W, 3] over a dim sRGB picture of that size."""
    size = tuple(picture.shape[:2])
    known = ~residual.isnan()

    def enlarged(x: Tensor) -> Tensor:
        return F.interpolate(x[None, None], size, mode="bilinear", align_corners=False)[0, 0]

    share = enlarged(known.float())
    stops = enlarged(residual.nan_to_num(0.0)) / share.clamp(min=1e-6)
    color = torch.zeros_like(picture) + picture.new_tensor(FALSE_COLORS[0][1])
    for (low, low_color), (high, high_color) in itertools.pairwise(FALSE_COLORS):
        fraction = ((stops - low) / (high - low)).clamp(0, 1)[..., None]
        change = picture.new_tensor(high_color) - picture.new_tensor(low_color)
        color = color + fraction * change
    dim = 0.3 * luminance(picture)[..., None].expand(-1, -1, 3)
    return torch.where((share > 0.5)[..., None], color, dim).clamp(0, 1)
