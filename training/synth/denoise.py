"""Taking the renderer's noise out of pictures with Open Image Denoise, guided by what the surface is.

Skin, hair and cloth at 16 paths a pixel come out nearer to the limit of many paths than at 96 without (tests). What a
*mirror* shows is softened, since no guide tells the denoiser what that is: at most the glint on a pair of glasses here.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from types import ModuleType

import numpy as np

from delit_models.errors import DelitError

from .truth import SurfaceTruth


def check_denoiser() -> None:
    """Raises DelitError, with the remedy, where Open Image Denoise is not installed."""
    if importlib.util.find_spec("pyoidn") is None:
        raise DelitError(
            "Pictures are denoised with Open Image Denoise, which is not installed: pip install pyoidn. Or give "
            "--no_denoise, and some six times the --samples_per_pixel for pictures as clean."
        )


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
