"""All kinds of cases that run in a process, by name."""

from __future__ import annotations

from . import picture_files, promises, tensors, weights_files
from .harness import Kind

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND for module in (picture_files, promises, tensors, weights_files)
}
