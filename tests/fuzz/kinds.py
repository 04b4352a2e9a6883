"""All kinds of cases that run in a process, by name."""

from __future__ import annotations

from . import datasets, picture_files, promises, tensors, weights_files
from .harness import Kind

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND for module in (datasets, picture_files, promises, tensors, weights_files)
}
