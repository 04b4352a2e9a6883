"""Somebody at ComfyUI's front end: clicks, keys and what they see, counted and photographed.

What a person sees (where a node, its button and its sockets are) is asked of the page; what they do goes through mouse
and keyboard alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Where things are on the screen: [x, y] in pixels of the page.
ON_SCREEN = """([type, what, name]) => {
  const nodes = app.graph.nodes.filter(node => node.type === type);
  const node = nodes[nodes.length - 1];
  if (!node) return null;
  let point;
  if (what === 'output') point = node.getConnectionPos(false, node.outputs.findIndex(slot => slot.name === name));
  else if (what === 'input') point = node.getConnectionPos(true, node.inputs.findIndex(slot => slot.name === name));
  else {
    const widget = node.widgets.find(widget => widget.name === name);
    if (!widget || widget.last_y === undefined) return null;
    point = [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.last_y + 10];
  }
  const { scale, offset } = app.canvas.ds;
  const canvas = app.canvas.canvas.getBoundingClientRect();
  return [canvas.left + (point[0] + offset[0]) * scale, canvas.top + (point[1] + offset[1]) * scale];
}"""
# A point of the canvas under the first group, clear of the side bar.
EMPTY_PLACE = """() => {
  const { scale, offset } = app.canvas.ds;
  const [left, top] = app.graph.groups[0].pos, [width, height] = app.graph.groups[0].size;
  const canvas = app.canvas.canvas.getBoundingClientRect();
  return [canvas.left + (left + width / 2 + offset[0]) * scale, canvas.top + (top + height + 40 + offset[1]) * scale];
}"""
NODES = "() => app.graph.nodes.length"
ON_THE_POINTER = "() => app.graph.nodes.some(node => node.flags?.ghost)"
ANIMATION, HOVER = 800, 300
PATIENCE = 60_000


class Person:
    """Mouse and keyboard on a page.

    Attributes:
        clicks: mouse buttons pressed; a double click is two, a drag one.
        keys: keys pressed.
    """

    def __init__(self, page: Any, album: Path) -> None:
        self.page, self.album = page, album
        self.clicks = self.keys = self._pictures = 0
        album.mkdir(parents=True, exist_ok=True)

    def photograph(self, what: str) -> None:
        self._pictures += 1
        self.page.wait_for_timeout(ANIMATION)
        self.page.screenshot(path=self.album / f"{self._pictures}_{what}.png")

    def click(self, target: Any) -> None:
        """A click on what a locator finds, as soon as it is there."""
        self.clicks += 1
        target.click(timeout=PATIENCE)

    def click_at(self, place: list[float]) -> None:
        self.clicks += 1
        self._go_to(place)
        self.page.mouse.click(*place, delay=60)

    def double_click_at(self, place: list[float]) -> None:
        self.clicks += 2
        self.page.mouse.dblclick(*place, delay=60)

    def type(self, words: str) -> None:
        self.keys += len(words)
        self.page.keyboard.type(words, delay=60)

    def press(self, key: str) -> None:
        self.keys += 1
        self.page.keyboard.press(key)

    def drag(self, start: list[float], end: list[float]) -> None:
        self.clicks += 1
        self._go_to(start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=8)
        self.page.mouse.up()

    def _go_to(self, place: list[float]) -> None:
        """The canvas looks what lies under the pointer before a button is pressed there."""
        self.page.mouse.move(*place)
        self.page.wait_for_timeout(HOVER)

    def choose_file(self, button: list[float], file: Path) -> None:
        """The button, and the file in the system's dialog: a double click there."""
        with self.page.expect_file_chooser(timeout=PATIENCE) as chooser:
            self.click_at(button)
        self.clicks += 2
        chooser.value.set_files(file)

    def add_node(self, name: str, place: list[float]) -> None:
        """The search that a double click on the canvas opens; newer front ends hang the node on the pointer first."""
        self.double_click_at(place)
        self.page.wait_for_timeout(1500)
        self.type(name)
        self.page.wait_for_timeout(1500)
        self.photograph("search")
        before = self.page.evaluate(NODES)
        self.press("Enter")
        self.page.wait_for_function(f"before => ({NODES})() > before", arg=before, timeout=PATIENCE)
        self.page.wait_for_timeout(ANIMATION)
        if self.page.evaluate(ON_THE_POINTER):
            self.click_at(place)

    def sees(self, node: str, what: str, name: str) -> list[float]:
        """Where an output, an input or a widget of a node is."""
        return self.page.wait_for_function(ON_SCREEN, arg=[node, what, name], timeout=PATIENCE).json_value()

    def sees_empty_canvas(self) -> list[float]:
        return self.page.evaluate(EMPTY_PLACE)
