"""Taking the renderer's noise out of pictures with Open Image Denoise, guided by what the surface is.

Skin, hair and cloth at 16 paths a pixel come out nearer to the limit of many paths than at 64 without (tests). Alone,
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

# Pixels square: of the window in which two renderings are compared, and of the wider one that their noise is taken
# from, since the few paths of a small one may all have missed a lamp.
_WINDOW, _NOISE_WINDOW = 5, 17
# Noise alone agrees as well as this, by chance, in a window that small.
_CHANCE = 0.5
_DARK = 0.1  # times the picture's median: darker pixels are compared as if they were this bright


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

    What it changed and both renderings show alike was no noise and is put back, by the share of it that is alike around
    each pixel: Wiener's filter, signal over signal and noise, both estimated from the two halves as in Rousselle, Knaus
    and Zwicker, "Adaptive rendering with non-local means filtering" (2012).
    first, second: [S, S, 4] each, of equally many paths; truth as for `denoised`. Raises DelitError as it does.
    """
    mean = (first + second) / 2
    clean = denoised(mean, truth)
    color, inside = clean[..., :3], clean[..., 3] > 0.5
    if not inside.any():
        return clean
    # By the clean brightness, not by a curve of the noisy one: noise stays zero in the mean, however uneven it is.
    brightness = color + max(_DARK * float(np.median(color[inside])), 1e-6)
    taken = [(half[..., :3] - color) / brightness for half in (first, second)]
    signal = np.maximum(_window_mean(taken[0] * taken[1], _WINDOW), 0.0)
    spread = (taken[0] - taken[1]) ** 2 / 2
    noise = np.maximum(_window_mean(spread, _WINDOW), _window_mean(spread, _NOISE_WINDOW))
    alike = signal / np.maximum(signal + noise, 1e-12)
    share = np.maximum(alike - _CHANCE, 0.0) / (1 - _CHANCE)
    return clean + share[..., None] * (mean - clean)


def _window_mean(values: np.ndarray, size: int) -> np.ndarray:
    """Mean [S, S] of [S, S, C] over the channels and a window around each pixel."""
    return uniform_filter(values.mean(-1), size)


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
