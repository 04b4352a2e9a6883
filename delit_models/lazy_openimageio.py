"""OpenImageIO, imported when it is first needed: the pack loads quickly, and without it too.

Only files that need it are refused where it is missing (a platform without a wheel for it).
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType
from typing import Any

from .errors import DelitError


@lru_cache
def openimageio() -> ModuleType:
    """The module.

    Raises:
        DelitError: where it is not installed or cannot be loaded.
    """
    try:
        return importlib.import_module("OpenImageIO")
    except ImportError as error:
        raise DelitError(
            f"This file needs OpenImageIO, which is not there ({error}). Install it into ComfyUI's Python: python -m "
            "pip install OpenImageIO (on Windows portable: python_embeded\\python.exe -m pip install OpenImageIO). "
            "PNG, JPEG and WebP of 8 bits work without it."
        ) from error


def is_installed() -> bool:
    try:
        openimageio()
    except DelitError:
        return False
    return True


class _OnFirstUse:
    def __getattr__(self, name: str) -> Any:
        return getattr(openimageio(), name)


oiio = _OnFirstUse()
