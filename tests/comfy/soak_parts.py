"""Run under ComfyUI's own modules, without a server: what memory is held after each picture, and by whom.

    python soak_parts.py COMFYUI_FOLDER BASE_FOLDER PACK_FOLDER keep|give_back < work.json

work.json lists [clip, batch, height, width]. `keep` leaves out what Delit does against growth (delit_models/memory.py).
scripts/soak --in_process starts it, both ways.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

comfyui_folder, base_folder, pack_folder, give_back = sys.argv[1:5]
sys.path.insert(0, comfyui_folder)
sys.argv = ["main.py", "--base-directory", base_folder, "--cpu"]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import torch  # noqa: E402

import nodes  # noqa: E402

TOLD_EVERY = 10
TABLE = "{:>6} {:>9} {:>11} {:>12} {:>14} {:>9}"


def load_pack() -> tuple[object, type, object]:
    """The pipeline over the embedded weights in ComfyUI's classes, its options, and delit_models.memory."""
    before = set(sys.modules)
    assert asyncio.run(nodes.load_custom_node(pack_folder)), "the pack does not load"
    new = {name: sys.modules[name] for name in set(sys.modules) - before}

    def module(end: str) -> object:
        return next(module for name, module in new.items() if name.endswith(end))

    pipeline = module(".nodes.delit_model").pipeline_of(None, None)
    return pipeline, module(".delit_models.pipeline").DelitOptions, module(".delit_models.memory")


def mapped() -> dict[str, float]:
    """MB that are resident: of files, of code made at run time (oneDNN's kernels), and of all else."""
    held = {"files": 0.0, "kernels": 0.0, "rest": 0.0}
    kind = "rest"
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", words[0]):
            of_file = len(words) > 5 and words[5].startswith("/")
            kind = "files" if of_file else "kernels" if "x" in words[1] else "rest"
        elif words[0] == "Rss:":
            held[kind] += int(words[1]) / 1000
    return held


def free_in_heaps() -> float:
    """MB that glibc has from the system and nobody uses, in all its heaps (malloc_info(3))."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    libc.fclose.argtypes = [ctypes.c_void_p]
    libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
    with tempfile.NamedTemporaryFile() as file:
        stream = libc.fopen(file.name.encode(), b"w")
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        text = Path(file.name).read_text()
    totals = text[text.rindex("</heap>") :]
    return (
        sum(int(size) for size in re.findall(r'type="(?:fast|rest)" count="\d+" size="(\d+)"', totals)) / 1e6
    )


def tell(number: int, seconds: float) -> None:
    held = mapped()
    parts = (sum(held.values()), held["files"], held["kernels"], free_in_heaps())
    print(TABLE.format(number, *(f"{part:.0f}" for part in parts), f"{seconds:.0f}"), flush=True)


def work() -> None:
    pipeline, options, memory = load_pack()
    random = torch.Generator().manual_seed(0)
    print(f"{give_back}: MB at the end of a picture or clip")
    print(TABLE.format("number", "resident", "of files", "kernels", "free in heaps", "seconds"))
    start = time.monotonic()
    tell(0, 0)
    for number, (clip, batch, height, width) in enumerate(json.load(sys.stdin), start=1):
        images = torch.rand(batch, height, width, 3, generator=random)
        pipeline(images, None, options(clip=clip))
        if give_back == "give_back":
            memory.give_back_memory()
        if number % TOLD_EVERY == 0:
            tell(number, time.monotonic() - start)


if __name__ == "__main__":
    # Prompts run beside the main thread in a server, and so have another heap.
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
