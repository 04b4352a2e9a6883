"""ComfyUI for the tests: where it is, and a server of it with the pack installed.

COMFYUI_DIR names checkouts (one, or several with the system's path separator between them). Without it, those
under ~/.cache/delit/comfyui/ are taken.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
ARTIFACTS = REPOSITORY / "artifacts"
PROBE_PACK = Path(__file__).parent / "probe_pack"
HOW_TO_PROVIDE = (
    "no ComfyUI found: clone it (v0.8.0 or newer) into ~/.cache/delit/comfyui/VERSION, or name a clone in "
    "COMFYUI_DIR; its requirements.txt must be installed in the Python that runs the tests"
)
BOOT_SECONDS = 180
# A server answers late where its machine is busy with much else.
ANSWER_SECONDS = 300
# What a git checkout holds besides the pack.
NOT_THE_PACK = shutil.ignore_patterns(".*", "__pycache__", "artifacts", "runs", "data", "output", "tests")

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Checkout:
    """A ComfyUI source tree."""

    version: str
    folder: Path


def find_checkouts() -> list[Checkout]:
    """All ComfyUI source trees to test in, oldest first."""
    if named := os.environ.get("COMFYUI_DIR"):
        folders = [Path(name) for name in named.split(os.pathsep) if name]
    else:
        folders = list((Path.home() / ".cache" / "delit" / "comfyui").glob("*"))
    found = []
    for folder in folders:
        version_file = folder / "comfyui_version.py"
        if (folder / "main.py").is_file() and version_file.is_file():
            version = re.search(r"\d+(\.\d+)+", version_file.read_text(encoding="utf-8"))
            found.append(Checkout(version.group() if version else folder.name, folder.resolve()))
    return sorted(found, key=lambda checkout: tuple(map(int, checkout.version.split("."))))


@dataclass
class Run:
    """What became of a queued graph.

    Attributes:
        outputs: node id → what it shows in the front end.
        error: message of the node that failed, or of the refusal to queue; None if all went well.
        error_node, error_type: class of the node that failed, and of its exception.
        refused: the HTTP status of a refusal to queue; None for what was queued.
    """

    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    error_node: str | None = None
    error_type: str | None = None
    refused: int | None = None


class ComfyServer:
    """A running ComfyUI with a folder of its own for custom nodes, models, input and output.

    It cannot reach the internet (a proxy that is not there is set), so whatever runs in it runs offline.
    `packages` is a folder whose Python packages go before the installed ones.
    """

    def __init__(
        self,
        checkout: Checkout,
        base: Path,
        install: str,
        arguments: tuple[str, ...] = (),
        packages: Path | None = None,
    ) -> None:
        self.checkout, self.base, self.install = checkout, base, install
        self.arguments, self.packages = arguments, packages
        self.pack_name = "delit" if install == "symlink" else "ComfyUI-Delit"
        self.log_file = base / "server.log"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.input, self.output, self.models = base / "input", base / "output", base / "models"

    def __enter__(self) -> ComfyServer:
        self._install_packs()
        for folder in (self.input, self.output, self.models / "vae", self.models / "delit"):
            folder.mkdir(parents=True, exist_ok=True)
        nowhere = "http://127.0.0.1:9"
        environment = {**os.environ, "http_proxy": nowhere, "https_proxy": nowhere, "PYTHONUNBUFFERED": "1"}
        if self.packages:
            before = os.environ.get("PYTHONPATH")
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(self.packages), before)))
        command = [sys.executable, "main.py", "--cpu", "--base-directory", self.base, "--port", self.port]
        command += ["--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [*map(str, command), *self.arguments],
                cwd=self.checkout.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_up()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        ARTIFACTS.mkdir(exist_ok=True)
        shutil.copy(self.log_file, ARTIFACTS / f"comfyui-{self.checkout.version}-{self.install}.log")

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def alive(self) -> bool:
        return self.process.poll() is None and "system" in self.get("/system_stats")

    def get(self, path: str) -> Any:
        """A JSON answer."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        with _open_local(self.url + path) as answer:
            return answer.read()

    def run(self, graph: Graph, seconds: float = 300, client: str = "delit-tests") -> Run:
        """Queue a graph in the API's format and wait for its end."""
        body = json.dumps({"prompt": graph, "client_id": client}).encode()
        request = urllib.request.Request(
            f"{self.url}/prompt", body, headers={"Content-Type": "application/json"}
        )
        try:
            with _open_local(request) as answer:
                prompt_id = json.load(answer)["prompt_id"]
        except urllib.error.HTTPError as refusal:
            return Run(error=refusal.read().decode(), refused=refusal.code)
        return self.wait_for(prompt_id, graph, seconds)

    def wait_for(self, prompt_id: str, graph: Graph | None = None, seconds: float = 300) -> Run:
        """Wait for the end of a queued graph."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"ComfyUI {self.checkout.version} died:\n{self.log[-5000:]}")
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return _run_of(history[prompt_id])
            time.sleep(0.1)
        raise AssertionError(f"not done after {seconds} s: {graph}\n{self.log[-3000:]}")

    def put_array(self, name: str, array: np.ndarray) -> str:
        """An array for the probe pack's TestTensor; returns the file's name."""
        np.save(self.input / f"{name}.npy", array)
        return f"{name}.npy"

    def dumped(self, name: str) -> np.ndarray:
        """What the probe pack's TestDump wrote."""
        return np.load(self.output / name)

    def _install_packs(self) -> None:
        custom_nodes = self.base / "custom_nodes"
        custom_nodes.mkdir(parents=True)
        shutil.copytree(PROBE_PACK, custom_nodes / PROBE_PACK.name)
        if self.install == "symlink":
            (custom_nodes / self.pack_name).symlink_to(REPOSITORY, target_is_directory=True)
        else:
            shutil.copytree(REPOSITORY, custom_nodes / self.pack_name, ignore=NOT_THE_PACK)

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.3)
        self.process.kill()
        raise AssertionError(f"ComfyUI {self.checkout.version} did not start:\n{self.log[-5000:]}")


def _run_of(entry: dict[str, Any]) -> Run:
    run = Run(outputs=entry.get("outputs", {}))
    for kind, message in entry["status"]["messages"]:
        if kind == "execution_error":
            run.error, run.error_node = message["exception_message"].strip(), message["node_type"]
            run.error_type = message["exception_type"]
    return run


def _open_local(request: str | urllib.request.Request) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=ANSWER_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
