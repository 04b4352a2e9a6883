"""A device that this machine lacks, pretended: like Apple's MPS it has no float64, and its tensors do not mix with the
processor's.

The numbers are worked out on the processor. What is looked at is where each tensor would be: results are where their
inputs are, `.to(device)` and `.cpu()` move, and what a real device refuses is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

# A device whose name every build of torch knows; nothing is ever put there.
NAME = torch.device("meta")
_TOO_PRECISE = (torch.float64, torch.complex128)
_TO_PROCESSOR = {Tensor.cpu}
_VALUES = {Tensor.item, Tensor.tolist, Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__}
_NUMPY = {Tensor.numpy, Tensor.__array__}
# These take tensors of both, as real devices do: copying, and places to look up.
_MIXING = {Tensor.to, Tensor.copy_, Tensor.__setitem__, Tensor.__getitem__, Tensor.type_as}


class PretendDevice(TorchFunctionMode):
    """While it is entered, tensors that were `put` there, and all that is made of them, are on the device."""

    def put(self, value: Tensor | nn.Module) -> Any:
        """A tensor, or a module with all its weights, on the device."""
        if isinstance(value, nn.Module):
            for tensor in (*value.parameters(), *value.buffers()):
                tensor.pretended = True
            return value
        return _there(value.view_as(value))

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = any(map(_is_there, tensors))
        if function == Tensor.device.__get__:
            return NAME if there else function(*args, **kwargs)
        if function in _VALUES:
            return function(*args, **kwargs)
        if there and function in _NUMPY:
            raise TypeError("can't convert a tensor of a device to numpy: use .cpu() first")
        if there and function not in _MIXING and any(not _is_there(x) and x.ndim for x in tensors):
            raise RuntimeError(f"{function}: expected all tensors to be on the same device")
        there = _is_asked_for(args, kwargs, function, there)
        real_args, real_kwargs = tree_map(_real_device, (args, kwargs))
        result = function(*real_args, **real_kwargs)
        return tree_map(lambda x: _placed(x, there, tensors) if isinstance(x, Tensor) else x, result)


def _is_there(tensor: Tensor) -> bool:
    return getattr(tensor, "pretended", False)


def _there(tensor: Tensor) -> Tensor:
    if tensor.dtype in _TOO_PRECISE:
        raise TypeError(f"the device has no {tensor.dtype}")
    tensor.pretended = True
    return tensor


def _is_asked_for(args: tuple, kwargs: dict[str, Any], function: Callable, there: bool) -> bool:
    """Where a result goes: to the device that is named, or of `to` to the other tensor's, else to its inputs'."""
    if function in _TO_PROCESSOR:
        return False
    named = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.device)]
    named += [torch.device(x) for x in (kwargs.get("device"), *args[1:2]) if isinstance(x, str) and _names(x)]
    if named:
        return named[0] == NAME
    if function in (Tensor.to, Tensor.type_as) and len(args) > 1 and isinstance(args[1], Tensor):
        return _is_there(args[1])
    if function in _MIXING:
        return _is_there(args[0])
    return there


def _names(text: str) -> bool:
    return text.split(":")[0] in ("cpu", "cuda", "mps", "meta")


def _real_device(value: object) -> object:
    return torch.device("cpu") if value == NAME and isinstance(value, torch.device) else value


def _placed(result: Tensor, there: bool, inputs: list[Tensor]) -> Tensor:
    if _is_there(result) == there:
        return _there(result) if there else result
    if any(result is x for x in inputs):
        # What moves is another tensor.
        result = result.view_as(result)
    if there:
        return _there(result)
    result.pretended = False
    return result
