"""All kinds of cases that run in a process, by name."""

from __future__ import annotations

from . import (
    commands,
    datasets,
    metadata,
    picture_files,
    promises,
    tensors,
    trainers,
    videos,
    weights_files,
    writers,
)
from .harness import Kind

_MODULES = (
    commands,
    datasets,
    metadata,
    picture_files,
    promises,
    tensors,
    trainers,
    videos,
    weights_files,
    writers,
)
KINDS: dict[str, Kind] = {module.KIND.name: module.KIND for module in _MODULES}
