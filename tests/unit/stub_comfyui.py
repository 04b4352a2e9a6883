"""A stand-in for ComfyUI's HTTP interface: takes graphs, "runs" them at once, or fails as a plate's name says."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

RELEASED = Path(__file__).parents[1] / "comfy" / "released_nodes.json"


def object_info() -> dict[str, Any]:
    """/object_info of the released nodes, and of the core ones that a queue of shots uses."""
    info = {}
    for name, node in json.loads(RELEASED.read_text(encoding="utf-8"))["nodes"].items():
        groups: dict[str, dict] = {"required": {}, "optional": {}}
        for entry in node["inputs"]:
            options = {key: entry[key] for key in ("default", "choices") if key in entry}
            groups["optional" if entry["optional"] else "required"][entry["name"]] = [entry["type"], options]
        info[name] = {"input": groups, "output_name": [output["name"] for output in node["outputs"]]}
        info[name]["output_node"] = name.startswith("DelitSave")
    for name, outputs in {
        "PreviewAny": ["STRING"],
        "ImageToMask": ["MASK"],
        "MaskToImage": ["IMAGE"],
    }.items():
        info[name] = {"input": {}, "output_name": outputs}
    return info


class StubComfyUI(ThreadingHTTPServer):
    """Keeps the graphs that it was given, and the names of what they "saved"."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.graphs: list[dict] = []
        self.saved: set[str] = set()
        # As ComfyUI: what saves runs once for equal inputs.
        self.remembered: set[tuple[str, str]] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> StubComfyUI:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def loaded(self) -> list[str]:
        """The plates of all graphs."""
        return [
            node["inputs"]["file"]
            for graph in self.graphs
            for key, node in graph.items()
            if node["class_type"] == "DelitLoadPlate" and key != "shot mask"
        ]


class _Handler(BaseHTTPRequestHandler):
    server: StubComfyUI

    def do_GET(self) -> None:
        path = urlparse(self.path).path
        if path == "/object_info":
            self._answer(object_info())
        elif path == "/queue":
            self._answer({"queue_running": [], "queue_pending": []})
        elif path.startswith("/history/"):
            self._answer(self._history(path.rsplit("/", 1)[1]))
        else:
            self._answer({}, 404)

    def do_HEAD(self) -> None:
        asked = parse_qs(urlparse(self.path).query)
        name = f"{asked.get('subfolder', [''])[0]}/{asked['filename'][0]}".lstrip("/")
        self._answer({}, 200 if name in self.server.saved else 404)

    def do_POST(self) -> None:
        graph = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
        self.server.graphs.append(graph)
        plate = self.server.loaded()[-1]
        if "refused" in plate:
            error = {"message": "Custom validation failed", "details": f"There is no frame of {plate}."}
            refused = {"1": {"class_type": "DelitLoadPlate", "errors": [error]}}
            self._answer({"error": {"message": "invalid"}, "node_errors": refused}, 400)
        elif "gone" in plate:
            self.close_connection = True
            self.connection.close()
        else:
            self._answer({"prompt_id": str(len(self.server.graphs) - 1)})

    def _history(self, prompt: str) -> dict[str, Any]:
        graph = self.server.graphs[int(prompt)]
        plate = self.server.loaded()[int(prompt)]
        if "lost" in plate:
            return {}
        if "fails" in plate:
            said = {"node_type": "DelitPortrait", "exception_message": "Pictures hold\nNaN."}
            return {prompt: {"outputs": {}, "status": {"messages": [["execution_error", said]]}}}
        outputs = {}
        for key, node in graph.items():
            if node["class_type"] in ("DelitSavePlate", "DelitSaveEnvMap"):
                subfolder, _, name = node["inputs"]["filename_prefix"].rpartition("/")
                file = {"filename": f"{name}_v001.exr", "subfolder": subfolder, "type": "output"}
                outputs[key] = {
                    "plate_files": [file],
                    "images": [{**file, "type": "temp"}],
                    "animated": [False],
                }
                if (key, json.dumps(node)) not in self.server.remembered:
                    self.server.saved.add(f"{subfolder}/{name}_v001.exr")
                self.server.remembered.add((key, json.dumps(node)))
        return {prompt: {"outputs": outputs, "status": {"messages": [["execution_success", {}]]}}}

    def _answer(self, said: object, status: int = 200) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
