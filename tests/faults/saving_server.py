"""A ComfyUI server killed while Delit's nodes save: what has its name is whole, and a new server goes on beside it."""

from __future__ import annotations

import json
import random
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.comfy import graphs
from tests.comfy.comfyui import HOW_TO_PROVIDE, ComfyServer, Graph, find_checkouts

from .rounds import Tally
from .victims import processor_seconds
from .whole_files import damaged_files, results_in

MAPS, PLATES = 6, 5
FILES = MAPS + 2 * PLATES
_LOOK_EVERY = 0.002  # seconds
_PAST_THE_END = 1.1
_IDLE = 3.0  # seconds


class KilledServer(ComfyServer):
    """A server that may be started again in the same folders."""

    def _install_packs(self) -> None:
        if not (self.base / "custom_nodes").exists():
            super()._install_packs()

    def kill(self) -> None:
        """End it without a word."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def saving(prefix: str) -> Graph:
    """A graph that does little but save: maps, plates as EXR and as PNG, and a preview."""

    def plates(file_format: str) -> dict:
        inputs = {"images": ["plates", 0], "format": file_format, "coding": "sRGB"}
        name = file_format.split(" ")[0]
        return graphs.node("DelitSavePlate", filename_prefix=f"{prefix}/{name}", **inputs)

    maps = {
        "filename_prefix": f"{prefix}/map",
        "format": "exr",
        "bit_depth": "float",
        "orientation": "blender",
    }
    return {
        "maps": graphs.node("EmptyImage", width=512, height=256, batch_size=MAPS, color=0x8090A0),
        "plates": graphs.node("EmptyImage", width=480, height=320, batch_size=PLATES, color=0x405060),
        "save maps": graphs.node("DelitSaveEnvMap", env=["maps", 0], **maps),
        "save exr": plates("exr half"),
        "save png": plates("png 16 bit"),
        "preview": graphs.node("DelitPreviewEnvMap", env=["maps", 0]),
    }


def play_server(
    folder: Path, rounds: range, seed: int = 0, tell: Callable[[str], None] = lambda line: None
) -> Tally:
    """Rounds as of `rounds.play`: in each, one server is killed and another one started, which saves the same again.
    The moments are processor times from the posting of the graph on."""
    checkouts = find_checkouts()
    if not checkouts:
        raise RuntimeError(HOW_TO_PROVIDE)
    tally, base = Tally(), folder / "comfyui"
    server = KilledServer(checkouts[-1], base, "copy").__enter__()
    try:
        seconds = _whole_round(server, "unbroken")
        tell(f"comfyui: an unbroken graph takes {seconds:.2f} s of processor time")
        for number in rounds:
            chance = random.Random(f"{seed} comfyui {number}")
            kept = _stamps(server)
            moment = chance.uniform(0, _PAST_THE_END * seconds)
            _kill_after(server, saving(f"killed{number}"), moment)
            # Where all is there it was done already.
            tally.kills += len(results_in(server.output)) - len(kept) < FILES
            faults = [f"after a kill at {moment:.2f} s: {told}" for told in _faults(server, kept)]
            kept = _stamps(server)
            server = KilledServer(server.checkout, base, "copy").__enter__()
            try:
                _whole_round(server, f"round{number}")
            except AssertionError as error:
                faults.append(f"a new server does not save: {error}")
            faults += _faults(server, kept)
            tally.rounds += 1
            for fault in faults:
                tally.faults.append(f"comfyui, round {number}: {fault}")
                tell(f"✗ {tally.faults[-1]}")
    finally:
        server.kill()
    return tally


def _whole_round(server: ComfyServer, prefix: str) -> float:
    """The graph to its end; returns the processor time. Everything that is asked for is saved once more."""
    before = results_in(server.output)
    start = processor_seconds(server.process.pid)
    run = server.run(saving(prefix))
    assert run.error is None, run.error
    new = [name for name in results_in(server.output) if name not in before]
    assert len(new) == FILES, f"{len(new)} files of {FILES}: {new}"
    return processor_seconds(server.process.pid) - start


def _kill_after(server: KilledServer, graph: Graph, seconds: float) -> None:
    """Post a graph and kill the server after that much more processor time, or once it does nothing more."""
    start = processor_seconds(server.process.pid)
    body = json.dumps({"prompt": graph, "client_id": "delit-tests"}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/prompt", body, headers)).close()
    idle_since, used = time.monotonic(), 0.0
    while used < seconds and time.monotonic() - idle_since < _IDLE:
        time.sleep(_LOOK_EVERY)
        now = processor_seconds(server.process.pid) - start
        if now > used:
            idle_since, used = time.monotonic(), now
    server.kill()


def _stamps(server: ComfyServer) -> dict[str, tuple[int, int]]:
    """When each result was written, and how long it is."""
    found = {}
    for name, path in results_in(server.output).items():
        status = path.stat()
        found[name] = status.st_mtime_ns, status.st_size
    return found


def _faults(server: ComfyServer, kept: dict[str, tuple[int, int]]) -> Iterator[str]:
    yield from damaged_files(server.output)
    now = _stamps(server)
    yield from (f"{name} was changed or lost" for name, stamp in kept.items() if now.get(name) != stamp)
