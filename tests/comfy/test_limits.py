"""Disks and memory that run out under a server: the node says so, nothing is half written, and the server works on."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.comfy import graphs
from tests.comfy.comfyui import ComfyServer, Graph
from tests.comfy.test_bad_input import refused, works_on
from tests.unit.disk_limits import mounted, names_in


def saved_plates(server: ComfyServer, prefix: str, file_format: str) -> Graph:
    # Noise, which does not shrink; another one each time, so that nothing comes from a cache.
    noise = np.random.default_rng(len(prefix)).random((3, 96, 96, 3), dtype=np.float32)
    inputs = {"filename_prefix": prefix, "format": file_format, "coding": "sRGB"}
    return {
        "noise": graphs.node("TestTensor", file=server.put_array("noise", noise)),
        "save": graphs.node("DelitSavePlate", images=["noise", 0], **inputs),
    }


@pytest.mark.parametrize("file_format", ["exr half", "tiff 16 bit", "png 16 bit"])
def test_plates_on_a_full_disk(server: ComfyServer, file_format: str) -> None:
    """Frames that fitted are whole; the one that did not is not there."""
    folder = server.output / "full_plates"
    with mounted(folder, "size=100k"):
        graph = saved_plates(server, f"full_plates/{file_format[:3]}", file_format)
        run = server.run(graph)
        assert run.error_node == "DelitSavePlate" and "Nothing was written" in run.error
        names = names_in(folder)
        assert len(names) == 1 and ".0001." in names[0] and not names[0].startswith(".")
    works_on(server)


def test_plates_where_nothing_can_be_written(server: ComfyServer) -> None:
    with mounted(server.output / "locked_plates", "ro"):
        graph = saved_plates(server, "locked_plates/flat", "exr half")
        refused(server, graph, "DelitSavePlate", "Cannot write", "[Rr]ead-only")
    works_on(server)


def test_a_picture_that_does_not_fit_into_memory(server: ComfyServer) -> None:
    # Models are loaded and threads started before, so that only the picture needs more.
    assert server.run(graphs.portrait(server, graphs.picture(seed=41))).error is None
    inputs = graphs.PORTRAIT_SETTINGS | {"area": "subject", "image": ["image", 0]}
    graph = {
        "image": graphs.node("EmptyImage", width=5000, height=5000, batch_size=1, color=0x808080),
        "portrait": graphs.node("DelitPortrait", **inputs),
        "shown": graphs.node("PreviewAny", source=["portrait", 0]),
    }
    with memory_limited(server, 700_000_000):
        run = server.run(graph)
        assert run.error is not None and run.error_node == "DelitPortrait"
        assert "memory" in run.error.lower()
        assert server.alive()
    works_on(server)


@contextmanager
def memory_limited(server: ComfyServer, more: int) -> Iterator[None]:
    """The server may take so many bytes of addresses beyond those that it has."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("another process's limits can be set on Linux alone")
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[0])
    before = resource.prlimit(server.process.pid, resource.RLIMIT_AS)
    limit = (pages * resource.getpagesize() + more, before[1])
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, limit)
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, before)
