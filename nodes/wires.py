"""What comes in on a wire, checked before a node's own code sees it.

ComfyUI checks the values of widgets, and that a link leads to an output of the right type; but a prompt that was posted
by hand may have any value in the place of a link, and another pack's node may put anything on a wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..delit_models.errors import DelitError
from .delit_model import DelitModel
from .plates import PlateInfo
from .schema import EnvCode


def _is_latent(value: Any) -> bool:
    return isinstance(value, Mapping) and "samples" in value


def _is_images(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()


def _is_mask(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim in (2, 3) and not value.is_complex()


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "IMAGE": ("images [batch, height, width, channels] of floating-point numbers", _is_images),
    "MASK": ("a mask [batch, height, width]", _is_mask),
    "LATENT": ("a latent", _is_latent),
    "VAE": ("a VAE", lambda value: hasattr(value, "first_stage_model")),
    "VIDEO": ("a video", lambda value: hasattr(value, "get_components")),
    "DELIT_MODEL": ("heads, from “Load Delit Model”", lambda value: isinstance(value, DelitModel)),
    "ENV_CODE": ("a code of light, from “Delit Apply”", lambda value: isinstance(value, EnvCode)),
    "DELIT_PLATE_INFO": (
        "a plate's information, from “Load Plate”",
        lambda value: isinstance(value, PlateInfo),
    ),
}


def with_checked_wires(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The node, which from now on refuses with a DelitError what is of another kind than its inputs."""
    execute = node.execute.__func__
    inputs = [entry for entry in node.define_schema().inputs if entry.get_io_type() in _KINDS]
    names = signature(execute)

    @wraps(execute)
    def checked(cls: type[io.ComfyNode], *arguments: Any, **settings: Any) -> io.NodeOutput:
        # ComfyUI gives all by name; who calls a node from Python may not.
        values = names.bind_partial(cls, *arguments, **settings).arguments
        for entry in inputs:
            value = values.get(entry.id)
            expected, fits = _KINDS[entry.get_io_type()]
            if not fits(value) and not (value is None and entry.optional):
                raise DelitError(
                    f"“{entry.id}” takes {expected}, but {_told(value)} was given. Connect the output of a node that "
                    "gives it."
                )
        return execute(cls, *arguments, **settings)

    node.execute = classmethod(checked)
    return node


def _told(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return "nothing" if value is None else f"a value of the kind “{type(value).__name__}”"
