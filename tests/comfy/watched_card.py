"""A second device on a machine without a GPU, watched: tensors on two devices that meet in one operation are an error.

`cpu:0` stands for a card. PyTorch computes on it as on `cpu` and forgets at once that a tensor lay there; here every
tensor is noted as being on the card or not, and tells so itself (`tensor.device`). As on a real machine only numbers
(tensors without dimensions) of the CPU may meet a card's tensors, and `copy_` goes across.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakIdKeyDictionary

CARD = torch.device("cpu", 0)
HOME = torch.device("cpu")
# aten operations that go from one device to another, and those whose indices may lie on the CPU.
ACROSS = ("aten::copy_", "aten::_to_copy", "aten::set_data", "aten::_has_compatible_shallow_copy_type")
INDEXED = ("aten::index", "aten::index_put_", "aten::_index_put_impl_")

DEVICE = Tensor.device.__get__
# A parameter that is wrapped anew is the same memory; numbers that become a tensor go where the other one is.
SAME_PLACE = (Tensor.data.__get__, Tensor.detach, Tensor.requires_grad_, Tensor.new_tensor)


class DevicesMet(RuntimeError):
    """Tensors of two devices in one operation: “Expected all tensors to be on the same device”."""


_on_card = WeakIdKeyDictionary()


def on_card(tensor: Tensor) -> bool:
    return tensor in _on_card


def _note(tensor: Any, card: bool) -> Any:
    if isinstance(tensor, Tensor):
        if card:
            _on_card[tensor] = True
        else:
            _on_card.pop(tensor, None)
    return tensor


class _Operations(TorchDispatchMode):
    """Below Python's API: what comes out lies where what went in did."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        name, device = func._schema.name, kwargs.get("device")
        if name in ACROSS:
            card = on_card(tensors[0]) if device is None else device == CARD
        elif device is not None or not tensors:
            card = device == CARD
        else:
            card = any(map(on_card, tensors))
            asked = tensors[:1] if name in INDEXED else [tensor for tensor in tensors if tensor.ndim]
            if card and not all(map(on_card, asked)):
                places = ", ".join(f"{list(t.shape)} on {CARD if on_card(t) else HOME}" for t in tensors)
                raise DevicesMet(f"{name}: {places}")
        return tree_map(lambda value: _note(value, card), func(*args, **kwargs))


class _Api(TorchFunctionMode):
    """Python's API: moves from the card are no operation to PyTorch, so they are seen here; and `tensor.device`."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func == DEVICE:
            return CARD if on_card(args[0]) else func(*args)
        if func in (Tensor.numpy, Tensor.__array__) and on_card(args[0]):
            raise DevicesMet("A card's tensor has no NumPy array; copy it to the CPU first")
        if func is Tensor.cpu or func is Tensor.to:
            target = HOME if func is Tensor.cpu else _target(args[1:], kwargs)
            moved = func(*args, **kwargs)
            if target is None or (target == CARD) == on_card(args[0]):
                return _note(moved, on_card(args[0]))
            # Not the same object: the one that stays is still where it was.
            return _note(moved.detach() if moved is args[0] else moved, target == CARD)
        result = func(*args, **kwargs)
        if func == Tensor.data.__set__:
            _note(args[0], on_card(args[1]))
        if func in SAME_PLACE:
            _note(result, on_card(args[0]))
        return result


def _target(args: tuple, kwargs: dict) -> torch.device | None:
    """The device that a call of Tensor.to names, if any."""
    named = kwargs.get("device", kwargs.get("other", args[0] if args else None))
    if isinstance(named, Tensor):
        return CARD if on_card(named) else HOME
    return torch.device(named) if isinstance(named, (str, torch.device)) else None


@contextmanager
def watched() -> Iterator[None]:
    """While this lasts, tensors are noted and devices may not meet."""
    new = torch.nn.Parameter.__new__

    def parameter(cls: type, data: Tensor | None = None, requires_grad: bool = True) -> Tensor:
        return _note(new(cls, data, requires_grad), data is not None and on_card(data))

    torch.nn.Parameter.__new__ = parameter
    try:
        with _Operations(), _Api():
            yield
    finally:
        torch.nn.Parameter.__new__ = new
