"""Take the pictures of the shipped workflows anew: run each in a real ComfyUI and photograph its graph.

    .venv/bin/python scripts/workflow_pictures.py [NAME …]

Needs a ComfyUI checkout (see tests/comfy/comfyui.py) and Chromium. Run it when weights or workflows have changed.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.comfy.clips import put_workflow_clip  # noqa: E402
from tests.comfy.comfyui import HOW_TO_PROVIDE, ComfyServer, find_checkouts  # noqa: E402
from tests.comfy.stand_ins import NAMED_BY, put_stand_ins  # noqa: E402
from tests.comfy.workflow_inputs import put_workflow_inputs  # noqa: E402

WORKFLOWS = REPOSITORY / "workflows"
WIDTH = 1600
MARGIN = 30
MAX_BYTES = 200_000
RUN_SECONDS = 300
# Output nodes of the graphs with Wan that need nothing of it.
BEFORE_WAN = {"delit_wan_start_frame": ["4", "5"]}

# A first visit opens the template browser and tours otherwise.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    # Words are drawn at any size: a wide graph is photographed from afar.
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}

# The smallest box around all nodes and groups, in the graph's coordinates.
BOUNDS = """() => {
  const boxes = [...app.graph.nodes.map(n => [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30]),
                 ...app.graph.groups.map(g => [...g.pos, ...g.size])];
  const left = Math.min(...boxes.map(b => b[0])), top = Math.min(...boxes.map(b => b[1]));
  return [left, top, Math.max(...boxes.map(b => b[0] + b[2])) - left, Math.max(...boxes.map(b => b[1] + b[3])) - top];
}"""
SHOW = """([x, y, scale]) => {
  app.canvas.deselectAll?.();
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [x, y];
  app.canvas.setDirty(true, true);
}"""


def photograph(page: Page, server: ComfyServer, workflow: Path) -> Image.Image:
    """Open a workflow in the front end, run it to its end, and photograph the whole graph.

    Of those with Wan only what Delit does by itself is run: what small stand-ins for its files make is noise.
    """
    page.evaluate("graph => app.loadGraphData(graph)", json.loads(workflow.read_text(encoding="utf-8")))
    outputs = BEFORE_WAN.get(workflow.stem)
    if outputs is not None or workflow.stem not in NAMED_BY:
        queued = set(server.get("/history"))
        page.evaluate("outputs => app.queuePrompt(0, 1, outputs ?? undefined)", outputs)
        _wait_for_run(server, queued)
    left, top, width, height = page.evaluate(BOUNDS)
    scale = (WIDTH - 2 * MARGIN) / width
    page.set_viewport_size({"width": WIDTH, "height": round(height * scale) + 2 * MARGIN})
    page.wait_for_timeout(500)
    page.evaluate(SHOW, [MARGIN / scale - left, MARGIN / scale - top, scale])
    # Preview images arrive and notes are laid out over several frames.
    page.wait_for_timeout(2500)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def _wait_for_run(server: ComfyServer, before: set[str]) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        for prompt_id, entry in server.get("/history").items():
            if prompt_id not in before and entry["status"]["completed"]:
                return
            if prompt_id not in before and entry["status"]["status_str"] == "error":
                sys.exit(f"The workflow failed: {entry['status']['messages'][-1]}")
        time.sleep(0.3)
    sys.exit(f"The workflow was not done after {RUN_SECONDS} s.\n{server.log[-3000:]}")


def save_small(picture: Image.Image, path: Path) -> None:
    """Write a JPEG of at most MAX_BYTES, at the best quality that fits."""
    for quality in range(90, 20, -5):
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=quality, optimize=True, progressive=True)
        if encoded.tell() <= MAX_BYTES:
            break
    path.write_bytes(encoded.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of the shipped workflows anew.")
    names = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    parser.add_argument("names", nargs="*", help=f"which workflows (default: all, {', '.join(names)})")
    chosen = parser.parse_args().names or names
    checkouts = find_checkouts()
    if not checkouts:
        sys.exit(HOW_TO_PROVIDE)
    with (
        tempfile.TemporaryDirectory() as folder,
        ComfyServer(checkouts[-1], Path(folder), "symlink") as server,
        sync_playwright() as playwright,
    ):
        put_workflow_inputs(server.input)
        put_workflow_clip(server.input)
        put_stand_ins(server.models)
        user = Path(folder) / "user" / "default"
        user.mkdir(parents=True, exist_ok=True)
        (user / "comfy.settings.json").write_text(json.dumps(SETTINGS))
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": 1000})
        page.goto(server.url)
        page.wait_for_function("() => Boolean(window.LiteGraph?.registered_node_types?.DelitPortrait)")
        page.wait_for_timeout(2000)
        page.keyboard.press("Escape")
        page.evaluate("() => app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
        for name in chosen:
            picture = photograph(page, server, WORKFLOWS / f"{name}.json")
            save_small(picture, WORKFLOWS / f"{name}.jpg")
            print(f"workflows/{name}.jpg: {picture.width}×{picture.height}")


if __name__ == "__main__":
    main()
