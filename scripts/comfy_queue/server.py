"""A running ComfyUI, by its HTTP interface."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from delit_models.errors import DelitError
from delit_models.json_text import parse_json

from .workflow_json import Graph

SECONDS_BETWEEN_LOOKS = 0.25
# A queued graph that the server knows nothing of for so many looks is lost: it was restarted.
LOOKS_BEFORE_LOST = 8


@dataclass(frozen=True)
class Ran:
    """What became of a graph: why it failed, None if it did not; and the files that it saved in the output folder."""

    reason: str | None = None
    files: tuple[str, ...] = field(default=())


class ComfyUI:
    """A server at an address such as http://127.0.0.1:8188. Raises DelitError for what is no such address."""

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise DelitError(
                f"“{address}” is no address of a ComfyUI; give one such as http://127.0.0.1:8188."
            )
        self.address = address.rstrip("/")

    def nodes(self) -> dict[str, Any]:
        """All node classes with their inputs, as /object_info has them."""
        return self._json("/object_info")

    def has_file(self, name: str) -> bool:
        """Whether a file, `subfolder/name`, is in the output folder."""
        subfolder, _, filename = name.rpartition("/")
        asked = urllib.parse.urlencode({"filename": filename, "subfolder": subfolder, "type": "output"})
        try:
            with self._open(urllib.request.Request(f"{self.address}/view?{asked}", method="HEAD")):
                return True
        except urllib.error.HTTPError:
            return False

    def run(self, graph: Graph) -> Ran:
        """Queue a graph and wait for its end.

        Raises:
            DelitError: if the server is not reached.
        """
        body = json.dumps({"prompt": graph, "client_id": "delit-queue-shots"}).encode()
        request = urllib.request.Request(
            f"{self.address}/prompt", body, headers={"Content-Type": "application/json"}
        )
        try:
            with self._open(request) as answer:
                prompt = parse_json(answer.read())["prompt_id"]
        except urllib.error.HTTPError as refusal:
            return Ran(_why_refused(refusal.read()))
        return self._wait_for(prompt)

    def _wait_for(self, prompt: str) -> Ran:
        unknown = 0
        while unknown < LOOKS_BEFORE_LOST:
            history = self._json(f"/history/{prompt}")
            if prompt in history:
                return _ran(history[prompt])
            queue = self._json("/queue")
            waiting = [entry[1] for entry in [*queue["queue_running"], *queue["queue_pending"]]]
            unknown = 0 if prompt in waiting else unknown + 1
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return Ran("ComfyUI does not know of it any more: it was restarted, or its queue was cleared.")

    def _json(self, path: str) -> Any:
        try:
            with self._open(urllib.request.Request(self.address + path)) as answer:
                return parse_json(answer.read())
        except (urllib.error.HTTPError, ValueError) as error:
            raise DelitError(f"{self.address} does not answer as ComfyUI does ({path}: {error}).") from error

    def _open(self, request: urllib.request.Request) -> Any:
        try:
            # Not through a proxy: the server is on the studio's own network.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return opener.open(request, timeout=60)
        except urllib.error.HTTPError:
            raise
        except (OSError, ValueError) as error:
            raise DelitError(
                f"No ComfyUI was reached at {self.address} ({error}). Start it, or give its address with --server."
            ) from error


def _ran(entry: dict[str, Any]) -> Ran:
    for kind, message in entry["status"]["messages"]:
        if kind == "execution_error":
            return Ran(f"{message['node_type']}: {' '.join(message['exception_message'].split())}")
        if kind == "execution_interrupted":
            return Ran("It was interrupted.")
    saved = [
        file
        for shown in entry.get("outputs", {}).values()
        for files in shown.values()
        if isinstance(files, list)
        for file in files
        if isinstance(file, dict) and file.get("type") == "output"
    ]
    names = (
        f"{file.get('subfolder', '')}/{file['filename']}".lstrip("/").replace("\\", "/") for file in saved
    )
    return Ran(files=tuple(dict.fromkeys(names)))


def _why_refused(body: bytes) -> str:
    """What ComfyUI says of a graph that it does not take, as one line."""
    try:
        said = parse_json(body)
        details = [
            f"{node['class_type']}: {error['message']}: {error['details']}"
            for node in (said.get("node_errors") or {}).values()
            for error in node["errors"]
        ]
        text = "; ".join(details) or said["error"]["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        text = body[:300].decode(errors="replace")
    return f"ComfyUI refuses it: {' '.join(text.split())}"
