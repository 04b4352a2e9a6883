"""ComfyUI's stop button within a node: it takes effect between two operations of Delit's own mathematics, and between
two layers of a model, so that at most one of them is still done.

Never within core's own code: stopped there, a model would be left half on its device. While core works, only the layers
of the model look at the button.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from comfy.model_management import throw_exception_if_processing_interrupted
from torch import nn
from torch.overrides import TorchFunctionMode

Result = TypeVar("Result")


class _BetweenOperations(TorchFunctionMode):
    """Looks at the button before every operation on tensors."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        throw_exception_if_processing_interrupted()
        return function(*args, **(kwargs or {}))


# The one that is entered while a node works, and core does not.
_entered: list[_BetweenOperations] = []


def interruptible(execute: Callable[..., Result]) -> Callable[..., Result]:
    """A node's `execute` that can be stopped."""

    @functools.wraps(execute)
    def stoppable(*arguments: Any, **settings: Any) -> Result:
        with _BetweenOperations() as mode:
            _entered.append(mode)
            try:
                return execute(*arguments, **settings)
            finally:
                _entered.pop()

    return stoppable


@contextmanager
def in_core(model: nn.Module | None = None) -> Iterator[None]:
    """Around calls of core's code, and of models that it manages; of `model`, the layers look at the button."""
    mode = _entered.pop() if _entered else None
    if mode is not None:
        mode.__exit__(None, None, None)
    handles = [] if model is None else [layer.register_forward_pre_hook(_look) for layer in _layers(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        if mode is not None:
            _entered.append(mode.__enter__())


def _look(layer: nn.Module, arguments: tuple) -> None:
    throw_exception_if_processing_interrupted()


def _layers(model: nn.Module) -> list[nn.Module]:
    """What takes long in a model; nothing of a compiled one, which a hook would make compile again."""
    modules = list(model.modules())
    if any(hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in modules):
        return []
    return [module for module in modules if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear)]
