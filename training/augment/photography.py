"""Photographs, not renders: what a camera, and whoever passed its file on, would have made of a scene.

The effects come in the order in which they befall a photograph: lens, sensor, look (tone curve, saturation),
sharpening, resampling, JPEG. Up to the sensor they work in linear light, after it on coded values. Exposure and white
balance are not here, since they change the light as well as the picture, nor is what stands behind the subject
(`variants`). The look belongs to the flat-lit picture too: the light is taken off, the camera is not undone.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from delit_models.color import linear_to_srgb, luminance
from delit_models.errors import DelitError

FULL_WELL = 15_000
"""Electrons of a pixel that is just white at ISO 100: between a telephone (6000) and a full-frame camera (60000)."""

READ_NOISE = 3.0
"""Standard deviation in electrons of what reading a pixel adds, at any ISO."""

CONTRAST_PIVOT = 0.46
"""Coded value that contrast leaves alone: 18% grey in sRGB."""

# A blur of less than this many pixels cannot be seen.
_LEAST_BLUR = 0.3
# Kernels with more pixels across are quicker through Fourier's transform.
_WIDEST_DIRECT_KERNEL = 11
_CHROMA_SUBSAMPLINGS = (0, 1, 2)  # Pillow's names for 4:4:4, 4:2:2 and 4:2:0


@dataclass(frozen=True)
class PhotographyConfig:
    """How strongly pictures are made to look photographed. Each picture draws its strengths at random from these.

    Attributes:
        share: of the pictures that are photographed at all, 0 to 1.
        defocus: largest radius of the blur of the whole picture, as a share of its shorter side.
        motion: longest path of a shaken camera, as a share of the shorter side.
        vignetting: largest loss of light in the corners, in stops.
        iso: lowest and highest sensitivity; every stop between them is as likely.
        contrast: mean and standard deviation of the change of contrast, in stops (1 doubles the slope at mid grey);
            cameras' own pictures have more of it than the plain coding of light.
        saturation: mean and standard deviation of the change of saturation, in stops.
        toe, shoulder: largest change, either way, of the tone curve's slope at black and at white, below 1.
        sharpening: largest amount of the unsharp mask, as a factor on what it brings out.
        smallest_scale: the smallest size that a picture is stored at before it is enlarged again, as a share.
        jpeg_quality: lowest and highest, on the scale of libjpeg.
    """

    share: float = 0.8
    defocus: float = 0.003
    motion: float = 0.006
    vignetting: float = 0.6
    iso: tuple[float, float] = (100.0, 3200.0)
    contrast: tuple[float, float] = (0.2, 0.25)
    saturation: tuple[float, float] = (0.2, 0.3)
    toe: float = 0.35
    shoulder: float = 0.35
    sharpening: float = 0.8
    smallest_scale: float = 0.5
    jpeg_quality: tuple[int, int] = (50, 95)

    def __post_init__(self) -> None:
        for name in ("share", "toe", "shoulder"):
            if not 0 <= getattr(self, name) <= 1:
                raise DelitError(f"{name} of the photography is {getattr(self, name)}; give 0 to 1.")
        for name in ("defocus", "motion", "vignetting", "sharpening"):
            if not getattr(self, name) >= 0:
                raise DelitError(f"{name} of the photography is {getattr(self, name)}; give 0 or more.")
        for name in ("contrast", "saturation"):
            if not getattr(self, name)[1] >= 0:
                raise DelitError(
                    f"{name} of the photography is {getattr(self, name)}; the second is a deviation, 0 or more."
                )
        if not 0 < self.smallest_scale <= 1:
            raise DelitError(f"smallest_scale is {self.smallest_scale}; give more than 0, at most 1.")
        if not 0 < self.iso[0] <= self.iso[1]:
            raise DelitError(f"iso is {self.iso}; give the lower one first, above 0, as in (100, 3200).")
        if not 1 <= self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100:
            raise DelitError(f"jpeg_quality is {self.jpeg_quality}; give two of 1 to 100, the lower first.")


@dataclass(frozen=True)
class Look:
    """What a camera makes of colours, whatever it photographs.

    Attributes:
        contrast, toe, shoulder: see `tone_curve`. saturation: factor on the distance of coded colours from grey.
    """

    contrast: float = 1.0
    toe: float = 0.0
    shoulder: float = 0.0
    saturation: float = 1.0

    @classmethod
    def draw(cls, config: PhotographyConfig, generator: torch.Generator) -> Look:
        contrast, saturation = (
            2 ** (mean + deviation * float(torch.randn((), generator=generator)))
            for mean, deviation in (config.contrast, config.saturation)
        )
        toe, shoulder = (_uniform(-most, most, generator) for most in (config.toe, config.shoulder))
        return cls(contrast, toe, shoulder, saturation)

    def of(self, picture: Tensor) -> Tensor:
        """A coded picture [3, H, W] in [0, 1] with this look."""
        picture = tone_curve(picture, self.contrast, self.toe, self.shoulder)
        grey = luminance(picture, dim=0)[None]
        return (grey + self.saturation * (picture - grey)).clamp(0, 1)


def photograph(light: Tensor, look: Look, config: PhotographyConfig, generator: torch.Generator) -> Tensor:
    """Turn the light of a scene into what a camera of that look would have recorded. Nothing moves by as much as a
    pixel.

    Args:
        light: [3, H, W], linear, of any size; 1 is the sensor's white, and brighter clips.
        generator: where every random number comes from, on the CPU.

    Returns:
        [3, H, W] in [0, 1], sRGB-coded, of 8-bit values.
    """
    return _store(look.of(linear_to_srgb(_take(light, config, generator))), config, generator)


def _take(light: Tensor, config: PhotographyConfig, generator: torch.Generator) -> Tensor:
    """Lens and sensor: linear light -> linear light in [0, 1]."""
    side = min(light.shape[-2:])
    # Squared: most photographs are nearly sharp.
    light = defocus(light, config.defocus * side * _uniform(0, 1, generator) ** 2)
    length, angle = config.motion * side * _uniform(0, 1, generator) ** 2, _uniform(0, math.pi, generator)
    light = motion_blur(light, length, angle)
    light = vignette(light, _uniform(0, config.vignetting, generator))
    iso = 2 ** _uniform(math.log2(config.iso[0]), math.log2(config.iso[1]), generator)
    return sensor_noise(light, iso, generator).clamp(0, 1)


def _store(picture: Tensor, config: PhotographyConfig, generator: torch.Generator) -> Tensor:
    """What becomes of the coded picture on its way to whoever has it."""
    picture = sharpen(picture, _uniform(0, config.sharpening, generator), _uniform(0.6, 1.4, generator))
    picture = resample(picture, _uniform(config.smallest_scale, 1, generator))
    lowest, highest = config.jpeg_quality
    quality = int(torch.randint(lowest, highest + 1, (), generator=generator))
    return through_jpeg(picture, quality, int(torch.randint(3, (), generator=generator)))


def defocus(light: Tensor, radius: float) -> Tensor:
    """Blur [3, H, W], linear, as a lens out of focus does: every point becomes a disc of `radius` pixels."""
    if radius < _LEAST_BLUR:
        return light
    return _convolve(light, _disc(radius))


def motion_blur(light: Tensor, length: float, angle: float) -> Tensor:
    """Blur [3, H, W], linear, as a camera that moved by `length` pixels at `angle` (radians, 0 is across)."""
    # A pixel is itself as long as a path of one pixel.
    half = max(0.0, length - 1) / 2
    if half == 0:
        return light
    x, y = _offsets(math.ceil(half) + 1)
    direction = math.cos(angle), math.sin(angle)
    along = (x * direction[0] + y * direction[1]).clamp(-half, half)
    distance = torch.hypot(x - along * direction[0], y - along * direction[1])
    return _convolve(light, (1 - distance).clamp(0, 1))


def vignette(light: Tensor, stops: float) -> Tensor:
    """Darken [3, H, W], linear, towards the corners, by `stops` in the corner itself.

    The cosine-fourth law: the light falls as cos⁴ of the angle from the axis, which is (1 + tan²)⁻².
    """
    height, width = light.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    corner_tangent_squared = 2 ** (stops / 2) - 1
    return light * (1 + corner_tangent_squared * (x**2 + y**2).to(light) / 2) ** -2


def sensor_noise(light: Tensor, iso: float, generator: torch.Generator) -> Tensor:
    """Add a sensor's noise to linear light of any shape (1 is white).

    Photons come at random, so that the variance grows with the light (shot noise); reading a pixel adds the same to
    all (read noise). Both in electrons, of which white has the fewer the higher the ISO. Gaussian for Poisson, as in
    Foi et al., Practical Poissonian-Gaussian noise modeling, 2008: with the electrons of a visible pixel they agree.
    """
    electron = iso / 100 / FULL_WELL
    variance = light.clamp(min=0) * electron + (READ_NOISE * electron) ** 2
    return light + variance.sqrt() * torch.randn(light.shape, generator=generator).to(light)


def tone_curve(picture: Tensor, contrast: float, toe: float, shoulder: float) -> Tensor:
    """A camera's curve on top of sRGB, on coded values in [0, 1] of any shape, each channel for itself.

    Contrast is a power on either side of CONTRAST_PIVOT, so that it is the slope there; 1 leaves it. Toe and shoulder
    are a cubic from (0, 0) to (1, 1) with the slopes 1 − toe at black and 1 − shoulder at white: above 0 they bring
    shadows down and let highlights fade into white. Fixes 0 and 1, and is monotone while those slopes are in [0, 3]
    (Fritsch and Carlson, Monotone piecewise cubic interpolation, 1980).
    """
    pivot = CONTRAST_PIVOT
    picture = torch.where(
        picture < pivot,
        pivot * (picture / pivot) ** contrast,
        1 - (1 - pivot) * ((1 - picture).clamp(min=0) / (1 - pivot)) ** contrast,
    )
    rest = 1 - picture
    return (picture - toe * picture * rest**2 + shoulder * picture**2 * rest).clamp(0, 1)


def sharpen(picture: Tensor, amount: float, radius: float) -> Tensor:
    """Unsharp mask on coded values [3, H, W] in [0, 1]: `amount` times what a Gaussian of `radius` pixels loses."""
    x, y = _offsets(math.ceil(3 * radius))
    smooth = _convolve(picture, torch.exp(-(x**2 + y**2) / (2 * radius**2)))
    return (picture + amount * (picture - smooth)).clamp(0, 1)


def resample(picture: Tensor, scale: float) -> Tensor:
    """Reduce a coded picture [3, H, W] to `scale` (0 to 1) of its size and enlarge it again."""
    size = picture.shape[-2:]
    smaller = tuple(max(1, round(side * scale)) for side in size)
    if smaller == tuple(size):
        return picture
    small = F.interpolate(picture[None], size=smaller, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(small, size=size, mode="bicubic", align_corners=False)[0].clamp(0, 1)


def through_jpeg(picture: Tensor, quality: int, subsampling: int) -> Tensor:
    """Write a coded picture [3, H, W] in [0, 1] as JPEG and read it again.

    `quality` 1 to 100; `subsampling` of the colour against the brightness: 0 none, 1 half across, 2 half both ways.
    """
    if subsampling not in _CHROMA_SUBSAMPLINGS:
        raise DelitError(f"JPEG's chroma subsampling is {subsampling}; give 0, 1 or 2 (4:4:4, 4:2:2, 4:2:0).")
    pixels = rearrange((picture.clamp(0, 1) * 255).round().to(torch.uint8), "c h w -> h w c")
    file = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(file, "JPEG", quality=quality, subsampling=subsampling)
    decoded = np.array(Image.open(file))
    return rearrange(torch.from_numpy(decoded), "h w c -> c h w").to(picture) / 255


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _offsets(reach: int) -> tuple[Tensor, Tensor]:
    """x and y of the pixels around one, both [2 reach + 1, 2 reach + 1]."""
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    x, y = torch.meshgrid(steps, steps, indexing="xy")
    return x, y


def _disc(radius: float) -> Tensor:
    """A disc of a radius in pixels, its edge smoothed over a pixel; not normalised."""
    x, y = _offsets(math.ceil(radius))
    return (radius + 0.5 - torch.hypot(x, y)).clamp(0, 1)


def _convolve(picture: Tensor, kernel: Tensor) -> Tensor:
    """Each channel of [C, H, W] with one odd-sized kernel, which is normalised; edges go on as their last pixel."""
    reach = kernel.shape[-1] // 2
    # Channels as a batch, which replicate padding takes for pictures of any size.
    padded = F.pad(picture[:, None], (reach,) * 4, mode="replicate")
    weights = (kernel / kernel.sum()).to(picture)
    if kernel.shape[-1] <= _WIDEST_DIRECT_KERNEL:
        return rearrange(F.conv2d(padded, weights[None, None]), "c 1 h w -> c h w")
    spectrum = torch.fft.rfft2(padded[:, 0]) * torch.fft.rfft2(weights, s=padded.shape[-2:])
    # The kernel's corner, not its middle, sat on the first pixel: the picture comes out that much further on.
    blurred = torch.fft.irfft2(spectrum, s=padded.shape[-2:])[:, 2 * reach :, 2 * reach :]
    # Rounding must not make light negative.
    return blurred.clamp(min=0)
