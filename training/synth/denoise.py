"""Taking the renderer's noise out of pictures with Open Image Denoise, guided by what the surface is.

Skin, hair and cloth at 16 paths a pixel come out nearer to the limit of many paths than at 96 without (tests). Alone,
a denoiser errs however many paths there are: it takes the sun in a mirror for noise. Two renderings of half the paths
each tell the two apart, so denoised_halves comes ever nearer to the truth, in a mirror too.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from types import ModuleType

import numpy as np
from scipy.ndimage import uniform_filter

from delit_models.errors import DelitError

from .truth import SurfaceTruth

_WINDOW = 5  # pixels square, over which two renderings are compared
# Noise alone agrees this well by chance, in a window that small.
_CHANCE = 0.3


def check_denoiser() -> None:
    """Raises DelitError, with the remedy, where Open Image Denoise is not installed."""
    if importlib.util.find_spec("pyoidn") is None:
        raise DelitError(
            "Pictures are denoised with Open Image Denoise, which is not installed: pip install pyoidn. Or give "
            "--no_denoise, and some six times the --samples_per_pixel for pictures as clean."
        )


def denoised_halves(first: np.ndarray, second: np.ndarray, truth: SurfaceTruth) -> np.ndarray:
    """The mean of two independent renderings of one picture without noise, [S, S, 4], as `denoised` describes it, but
    with what the denoiser took away in error.

    What it changed and both renderings show alike was no noise and is put back, by the share of it that is alike in a
    window around each pixel: Wiener's filter, signal over signal and noise, both estimated from the two halves as in
    Rousselle, Knaus and Zwicker, "Adaptive rendering with non-local means filtering" (2012).
    first, second: [S, S, 4] each, of equally many paths; truth as for `denoised`. Raises DelitError as it does.
    """
    mean = (first + second) / 2
    clean = denoised(mean, truth)
    inside = clean[..., 3] > 0.5
    level = float(np.median(clean[inside][:, :3].mean(-1))) if inside.any() else 0.0
    differences = [_compressed(half, level) - _compressed(clean, level) for half in (first, second)]
    signal = _window_mean(differences[0] * differences[1])
    both = _window_mean((differences[0] ** 2 + differences[1] ** 2) / 2)
    alike = np.clip(signal / np.maximum(both, 1e-12), 0.0, 1.0)
    share = np.maximum(alike - _CHANCE, 0.0) / (1 - _CHANCE)
    return (clean + share[..., None] * (mean - clean)).astype(np.float32)


def _compressed(image: np.ndarray, level: float) -> np.ndarray:
    """Colour [S, S, 3] as the eye weighs it: linear below a level of light, logarithmic above, so that one path that
    found the sun does not outweigh all others."""
    return np.log1p(np.maximum(image[..., :3], 0.0) / max(level, 1e-6))


def _window_mean(values: np.ndarray) -> np.ndarray:
    """Mean [S, S] of [S, S, C] over the channels and the window around each pixel."""
    return uniform_filter(values.mean(-1), _WINDOW)


def denoised(image: np.ndarray, truth: SurfaceTruth) -> np.ndarray:
    """A rendered picture without noise; its light stays, to about a hundredth.

    image: [S, S, 4] float32, linear, not clipped, multiplied by coverage, and the coverage, which stays as it is.
    truth: the surface that the picture shows: edges and texture that are in it are kept.
    Raises DelitError where the denoiser fails.
    """
    oidn, device = _device()
    guides = {"albedo": truth.albedo, "normal": truth.normals}
    color = np.ascontiguousarray(image[..., :3], np.float32)
    images = {"color": color} | {name: np.ascontiguousarray(x, np.float32) for name, x in guides.items()}
    images["output"] = np.empty_like(color)
    with oidn.Filter(device, oidn.OIDN_FILTER_TYPE_RT) as denoiser:
        for name, pixels in images.items():
            denoiser.set_image(name, pixels, oidn.OIDN_FORMAT_FLOAT3)
        denoiser.set_bool("hdr", True)
        denoiser.commit()
        denoiser.execute()
        if (message := device.get_error()) is not None:
            raise DelitError(f"Open Image Denoise failed: {message}.")
    # What is not covered is black, whatever the denoiser spreads there.
    clean = np.where(image[..., 3:] > 0, np.maximum(images["output"], 0.0), 0.0)
    return np.concatenate([clean, image[..., 3:]], axis=-1)


@lru_cache(maxsize=1)
def _device() -> tuple[ModuleType, object]:
    """The denoiser's module, and a device on one thread: workers share the cores already, and a picture comes out the
    same on every machine."""
    import pyoidn

    device = pyoidn.Device(pyoidn.OIDN_DEVICE_TYPE_CPU)
    device.set_int("numThreads", 1)
    device.set_bool("setAffinity", False)
    device.commit()
    if (message := device.get_error()) is not None:
        raise DelitError(f"Open Image Denoise does not start: {message}. Render with --no_denoise.")
    return pyoidn, device
