"""A ComfyUI server with rarely used flags, and without a way to any other machine, that serves two clients at once.

    unshare -rn python -m tests.comfy.flagged_service COMFYUI_FOLDER BASE_FOLDER

The flags are FLAGS, all in one server (--lowvram excludes --cpu: offload_heads.py stands for it). Prints one
JSON object.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.comfy import clips, graphs
from tests.comfy.comfyui import Checkout, ComfyServer, Graph

FLAGS = ("--cache-none", "--disable-metadata", "--multi-user")
CLIENTS = ("first", "second")
PROMPTS_OF_EACH = 2


def open_loopback() -> None:
    """In a new network namespace even this machine itself is out of reach at first (Linux, netdevice(7))."""
    import fcntl
    import socket

    set_interface_flags, up_and_running = 0x8914, 0x1 | 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", up_and_running)
        with contextlib.suppress(PermissionError):
            fcntl.ioctl(any_socket, set_interface_flags, request)


def other_interfaces() -> list[str]:
    """What this process could leave the machine by."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return [name for line in lines if (name := line.split(":")[0].strip()) != "lo"]


def portrait(server: ComfyServer, name: str, image: np.ndarray) -> Graph:
    """Delit Portrait with everything saved: the map as EXR, the picture as a plate and as ComfyUI's own PNG."""
    return {
        "image": graphs.node("TestTensor", file=server.put_array(name, image)),
        "portrait": graphs.node("DelitPortrait", **{**graphs.PORTRAIT_SETTINGS, "image": ["image", 0]}),
        "flat": graphs.node("TestDump", file=f"{name}_flat.npy", image=["portrait", 0]),
        "map": graphs.node("TestDump", file=f"{name}_env.npy", image=["portrait", 1]),
        "env": graphs.node(
            "DelitSaveEnvMap",
            env=["portrait", 1],
            filename_prefix=f"{name}/env",
            format="exr",
            bit_depth="half",
            orientation="delit",
        ),
        "plate": graphs.node(
            "DelitSavePlate",
            images=["portrait", 0],
            filename_prefix=f"{name}/flat",
            format="exr half",
            coding="sRGB",
        ),
        "png": graphs.node("SaveImage", images=["portrait", 0], filename_prefix=f"{name}/png"),
    }


def video(server: ComfyServer) -> Graph:
    """Delit Video between ComfyUI's own nodes for files."""
    clips.write_clip(server.input / "clip.mp4", clips.panned(3))
    settings = {"working_size": 0, "detail_transfer": True, "outside": "source", "env_pooling": "shot"}
    return {
        "load": graphs.node("LoadVideo", file="clip.mp4"),
        "delit": graphs.node("DelitVideo", video=["load", 0], **settings),
        "parts": graphs.node("GetVideoComponents", video=["delit", 0]),
        "flat": graphs.node("TestDump", file="video.npy", image=["parts", 0]),
    }


def pictures(client: str) -> dict[str, np.ndarray]:
    """Every prompt of a client has a picture, and a size, of its own."""
    first = PROMPTS_OF_EACH * CLIENTS.index(client)
    return {
        f"{client}{number}": graphs.picture(
            72 + 8 * number, 96 - 8 * CLIENTS.index(client), seed=first + number
        )
        for number in range(PROMPTS_OF_EACH)
    }


def free_memory(server: ComfyServer) -> None:
    """What the page's button does: unload all models, while others work."""
    body = json.dumps({"unload_models": True, "free_memory": True}).encode()
    request = urllib.request.Request(f"{server.url}/free", body, headers={"Content-Type": "application/json"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).close()


def serve(server: ComfyServer, client: str) -> list[str | None]:
    """A client's prompts, one after the other; the errors."""
    errors = []
    for name, image in pictures(client).items():
        errors.append(server.run(portrait(server, name, image), client=client).error)
        free_memory(server)
    return errors


def difference_when_alone(server: ComfyServer, name: str, image: np.ndarray) -> float:
    """What two clients at once got, against the same prompt with nothing beside it."""
    together = [server.dumped(f"{name}_{part}.npy") for part in ("flat", "env")]
    server.run(portrait(server, name, image))
    alone = [server.dumped(f"{name}_{part}.npy") for part in ("flat", "env")]
    return max(float(np.abs(a - b).max()) for a, b in zip(together, alone, strict=True))


def main(folder: str, base: str) -> dict[str, object]:
    open_loopback()
    checkout = Checkout(Path(folder).name, Path(folder))
    with ComfyServer(checkout, Path(base), "copy", FLAGS) as server:
        with ThreadPoolExecutor(len(CLIENTS)) as both:
            errors = list(both.map(lambda client: serve(server, client), CLIENTS))
        own = {name: image for client in CLIENTS for name, image in pictures(client).items()}
        files = sorted(path.relative_to(server.output).as_posix() for path in server.output.glob("*/*.*"))
        saved = [server.output / name for name in files if Path(name).suffix in (".exr", ".png")]
        return {
            "other_interfaces": other_interfaces(),
            "errors": [error for of_client in errors for error in of_client],
            "files": files,
            "tell_the_graph": [path.name for path in saved if b"DelitPortrait" in path.read_bytes()],
            "differences": [difference_when_alone(server, name, image) for name, image in own.items()],
            "video": server.run(video(server)).error,
            "alive": server.alive(),
        }


if __name__ == "__main__":
    print("REPORT " + json.dumps(main(*sys.argv[1:])))
