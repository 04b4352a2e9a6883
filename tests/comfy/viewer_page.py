"""“Preview Environment Map (Delit)” in a browser, handled as a user does; and the same pictures drawn with numpy."""

from __future__ import annotations

import base64
import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from delit_models.color import linear_to_srgb, luminance
from delit_models.lat_long import direction_grid, sample_env
from tests.comfy.comfyui import REPOSITORY
from training.evaluation.spheres import render_spheres, sphere_picture

# Counts the page's WebGL contexts that are there and not lost.
COUNT_CONTEXTS = """() => {
  const contexts = [];
  const original = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    const context = original.call(this, kind, ...rest);
    if (kind === 'webgl2' && context && !contexts.includes(context)) contexts.push(context);
    return context;
  };
  window.loseContexts = () => contexts.forEach(context => context.getExtension('WEBGL_lose_context')?.loseContext());
  window.liveContexts = () => contexts.filter(context => !context.isContextLost()).length;
}"""
ADD_NODES = """([files, at]) => {
  app.graph.clear();
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [0, 0];
  return files.map((file, index) => {
    const source = LiteGraph.createNode('TestTensor');
    source.widgets[0].value = file;
    source.pos = [at[0] - 340, at[1] + 90 * index];
    app.graph.add(source);
    const viewer = LiteGraph.createNode('DelitPreviewEnvMap');
    viewer.pos = [at[0] + 30 * index, at[1]];
    app.graph.add(viewer);
    source.connect(0, viewer, 0);
    return viewer.id;
  });
}"""
NEXT_FRAMES = """() => new Promise(resolve =>
  requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(resolve))))"""
PIXELS = """canvas => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let text = '';
  for (let start = 0; start < data.length; start += 32768)
    text += String.fromCharCode(...data.subarray(start, start + 32768));
  return [canvas.height, canvas.width, btoa(text)];
}"""
FIELD_OF_VIEW = math.radians(75)
HEIGHT = 128
LAMP = np.array([0.3, 0.25, -1.0]) / np.linalg.norm([0.3, 0.25, -1.0])


def lamp_map() -> np.ndarray:
    """A lamp ahead, up to the right, of a radiance far over 1, in a dim room."""
    inside = direction_grid(HEIGHT, 2 * HEIGHT).numpy() @ LAMP.astype(np.float32) > math.cos(math.radians(5))
    return np.where(inside[..., None], 60.0, 0.05).astype(np.float32).repeat(3, -1)


def smooth_map() -> np.ndarray:
    """Colours that change slowly and differ in every direction, over seven stops."""
    x, y, z = np.moveaxis(direction_grid(HEIGHT, 2 * HEIGHT).numpy(), -1, 0)
    stops = np.stack([2.5 * x + y, 2.5 * y - 0.7 * z, 2 * z + x * y], -1)
    return (0.3 * 2**stops).astype(np.float32)


MAPS = np.stack([lamp_map(), smooth_map(), np.full((HEIGHT, 2 * HEIGHT, 3), 0.18, np.float32)])


class ViewerPage:
    """A page with one viewer, found by what a user sees."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.panel = page.locator(".delit-env-viewer").first
        self.canvas = self.panel.locator("canvas")

    def button(self, name: str) -> Any:
        return self.panel.get_by_role("button", name=name)

    def press(self, button: str, on: bool = True) -> None:
        """Bring a button that stays pressed into a state."""
        if (self.button(button).get_attribute("aria-pressed") == "true") != on:
            self.button(button).click()

    def start(self) -> None:
        """The view as it is at first, without balls."""
        self.press("Balls", False)
        self.press("False colours", False)
        self.press("Look around")
        self.button("Reset view").click()
        self.set_slider("Exposure", 0)
        self.set_slider("Map", 1)

    def set_slider(self, name: str, value: float) -> None:
        slider = self.panel.get_by_role("slider", name=name)
        if float(slider.input_value()) != value:
            slider.fill(str(value))
            self.settle()

    def settle(self) -> None:
        """Wait until the map is there and drawn."""
        self.panel.locator(".stage[aria-busy=false]").wait_for()
        self.page.evaluate(NEXT_FRAMES)

    def picture(self) -> np.ndarray:
        """What the canvas shows, [h, w, 3] in 0 … 255."""
        self.settle()
        height, width, text = self.canvas.evaluate(PIXELS)
        pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)
        return pixels[..., :3].astype(np.float32)

    def drag(self, dx: float, dy: float) -> None:
        box = self.canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for step in range(1, 6):
            self.page.mouse.move(x + dx * step / 5, y + dy * step / 5)
        self.page.mouse.up()
        self.settle()

    def wheel(self, notches: float) -> None:
        self.canvas.click()
        self.page.mouse.wheel(0, -100 * notches)
        self.page.wait_for_timeout(200)
        self.settle()


def looked_at(
    env: np.ndarray, size: tuple[int, int], yaw: float = 0, pitch: float = 0, field: float = FIELD_OF_VIEW
) -> np.ndarray:
    """Radiance [h, w, 3] that a camera sees of a map [H, 2H, 3]: turned to its right by `yaw`, up by `pitch`."""
    height, width = size
    across = (np.arange(width) + 0.5 - width / 2) * 2 * math.tan(field / 2) / height
    up = -(np.arange(height) + 0.5 - height / 2) * 2 * math.tan(field / 2) / height
    x, y = np.meshgrid(across, up)
    directions = np.stack([x, y, -np.ones_like(x)], -1) @ turn(yaw, pitch).T
    return sample_env(torch.from_numpy(env), torch.from_numpy(directions)).numpy()


def turn(yaw: float, pitch: float) -> np.ndarray:
    """Rotation [3, 3] of a camera at rest: first up by `pitch`, then to the right by `yaw` (radians)."""
    c, s = math.cos(pitch), math.sin(pitch)
    upwards = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) @ upwards


def place_of(
    direction: np.ndarray,
    size: tuple[int, int],
    yaw: float = 0,
    pitch: float = 0,
    field: float = FIELD_OF_VIEW,
) -> tuple[float, float]:
    """Pixel (x, y) at which a camera sees a direction."""
    x, y, z = turn(yaw, pitch).T @ direction
    scale = size[0] / (2 * math.tan(field / 2)) / -z
    return size[1] / 2 + x * scale, size[0] / 2 - y * scale


def on_screen(radiance: np.ndarray, stops: float = 0) -> np.ndarray:
    """Linear light as a picture of 0 … 255."""
    exposed = torch.from_numpy(radiance * 2**stops).float().clamp(0, 1)
    return linear_to_srgb(exposed).numpy() * 255


def in_false_colors(radiance: np.ndarray, stops: float = 0) -> np.ndarray:
    bright = luminance(torch.from_numpy(radiance)).numpy()
    band = np.clip(np.floor(np.log2(np.maximum(bright, 1e-30)) + stops) + 8, 0, 15).astype(int)
    return stop_colors()[band]


def stop_colors() -> np.ndarray:
    """[16, 3], the false colours as the viewer's source names them."""
    source = (REPOSITORY / "web" / "env_map_viewer" / "shaders.js").read_text(encoding="utf-8")
    listed = source.split("STOP_COLORS = [")[1].split("]")[0]
    colors = [[int(text[at : at + 2], 16) for at in (0, 2, 4)] for text in re.findall(r"#(\w{6})", listed)]
    assert len(colors) == 16
    return np.array(colors, np.float32)


def bright_center(picture: np.ndarray) -> tuple[float, float]:
    """Where the lamp is seen (x, y)."""
    # The ring that marks it is grey to white and around it: that moves no centre.
    rows, columns = np.nonzero(picture.min(-1) > 250)
    assert len(rows), "no lamp is seen"
    return columns.mean() + 0.5, rows.mean() + 0.5


def assert_balls(picture: np.ndarray, env: np.ndarray) -> None:
    """That the three balls in the picture are the evaluation's, under a map as their camera sees it."""
    height, width = picture.shape[:2]
    radius = min(0.13 * height, 0.09 * width)
    spheres = render_spheres(torch.from_numpy(env))
    for number, name in enumerate(("mirror", "matte", "diffuse")):
        expected = on_screen(sphere_picture(spheres[name]).numpy())
        # Points inside the ball, away from its rim.
        for x, y in [(0, 0), (0.5, 0.3), (-0.6, 0.2), (0.1, -0.7), (-0.3, -0.4)]:
            column = radius * (1.25 + 2.2 * number) + x * radius
            row = height - 1.25 * radius - y * radius
            shown = picture[int(row), int(column)]
            there = expected[int((1 - y) * 32), int((1 + x) * 32)]
            assert shown == pytest.approx(there, abs=8), (name, x, y)
