"""Finding and starting Mitsuba: the LLVM variant where the machine can run it, the scalar one otherwise."""

from __future__ import annotations

import ctypes.util
import glob
import importlib.util
import logging
import re
from os import environ
from types import ModuleType

from delit_models.errors import DelitError

logger = logging.getLogger(__name__)

_LLVM_PATTERNS = (
    "/usr/lib/*-linux-gnu/libLLVM*.so*",
    "/usr/lib/llvm-*/lib/libLLVM*.so*",
    "/usr/lib64/libLLVM*.so*",
    "/usr/local/lib/libLLVM*.so*",
    "/opt/homebrew/opt/llvm*/lib/libLLVM*.dylib",
    "/usr/local/opt/llvm*/lib/libLLVM*.dylib",
    "C:/Program Files/LLVM/bin/LLVM-C.dll",
)
_OLDEST_LLVM = 16


def _llvm_version(path: str) -> int | None:
    """Major LLVM version named by a library path, or None when the path does not say."""
    match = re.search(r"libLLVM(?:[-.]|\.so\.)(?:so\.)?(\d+)", path) or re.search(r"llvm[-@](\d+)", path)
    return int(match.group(1)) if match else None


def find_llvm() -> str | None:
    """Path of the newest LLVM shared library that Dr.Jit can use (16 or newer), or None.

    Dr.Jit aborts the whole process on LLVM 14 and 15, so those are never returned. A DRJIT_LIBLLVM_PATH
    that the user has set wins and is not questioned.
    """
    chosen = environ.get("DRJIT_LIBLLVM_PATH")
    if chosen:
        return chosen
    found: dict[str, int] = {}
    for pattern in _LLVM_PATTERNS:
        for path in glob.glob(pattern):
            version = _llvm_version(path)
            if version is None and path.endswith((".dll", ".dylib")):
                version = _OLDEST_LLVM
            if version is not None and version >= _OLDEST_LLVM:
                found[path] = version
    if found:
        return max(found, key=lambda path: (found[path], path))
    named = ctypes.util.find_library("LLVM")
    return named if named and (_llvm_version(named) or 0) >= _OLDEST_LLVM else None


def renderer_variant(device: str = "cpu") -> str:
    """The Mitsuba variant that renders on a device of this machine: "cuda_ad_rgb" on "cuda"; on "cpu" "llvm_ad_rgb"
    where a usable LLVM is found, and "scalar_rgb", with a warning, where it is not.

    Raises DelitError when Mitsuba is not installed.
    """
    check_installed()
    if device == "cuda":
        return "cuda_ad_rgb"
    if find_llvm() is not None:
        return "llvm_ad_rgb"
    logger.warning(
        "No LLVM 16 or newer was found, so the slow scalar_rgb renderer is used. Install the package libllvm19 "
        "(any LLVM >= 16), or point DRJIT_LIBLLVM_PATH at the library."
    )
    return "scalar_rgb"


def start_mitsuba(variant: str | None = None, threads: int | None = None) -> ModuleType:
    """Imports Mitsuba, chooses a variant and returns the module.

    variant: "llvm_ad_rgb", "scalar_rgb", "cuda_ad_rgb"; None takes this machine's (renderer_variant). threads: render
    threads of this process, None for all.
    Raises DelitError when Mitsuba is not installed, or LLVM or CUDA was asked for and is missing.
    """
    check_installed()
    variant = variant or renderer_variant()
    if variant.startswith("llvm"):
        llvm = find_llvm()
        if llvm is None:
            raise DelitError(
                f"The renderer variant {variant} needs LLVM 16 or newer and none was found. Install the package "
                "libllvm19 (any LLVM >= 16), or point DRJIT_LIBLLVM_PATH at the library."
            )
        environ["DRJIT_LIBLLVM_PATH"] = llvm
    import mitsuba

    if variant.startswith("cuda"):
        _check_cuda(mitsuba, variant)
    mitsuba.set_variant(variant)
    if threads:
        import drjit

        drjit.set_thread_count(threads)
    return mitsuba


def check_installed() -> None:
    """Raises DelitError, with the remedy, where Mitsuba is not installed."""
    if importlib.util.find_spec("mitsuba") is None:
        raise DelitError("Rendering needs the Mitsuba renderer; install it with: pip install mitsuba anny")


def _check_cuda(mitsuba: ModuleType, variant: str) -> None:
    """Raises DelitError where Mitsuba was built without CUDA, or no card that it can use is there."""
    if variant not in mitsuba.variants():
        raise DelitError(
            f"This Mitsuba has no {variant}; its variants are {', '.join(mitsuba.variants())}. Install one that has, "
            "from PyPI for Linux or Windows, or render with --device cpu."
        )
    import drjit

    if not drjit.has_backend(drjit.JitBackend.CUDA):
        raise DelitError(
            "--device cuda needs an NVIDIA card and its driver (535 or newer), and none was found. Check with "
            "`nvidia-smi`, or render with --device cpu."
        )
