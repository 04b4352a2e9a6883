"""A new user's first five minutes: from ComfyUI's first page to a flat-lit PNG and an EXR map of their own picture.

Done in the real front end by mouse and keyboard alone; photographed in artifacts/first_graph/.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from delit_models.env_map_files import read_env_map
from delit_models.image_files import read_image
from tests.comfy.comfyui import ARTIFACTS, REPOSITORY, ComfyServer
from tests.comfy.person import PATIENCE, Person

FIVE_MINUTES = 300
# Not the example's: the results' size tells whose picture was delit.
SIZE = WIDTH, HEIGHT = 400, 480
WINDOW = {"width": 1920, "height": 1200}
LOADED = "() => app.graph.nodes.some(node => node.type === 'DelitPortrait')"
ADDED = "() => app.graph.nodes.some(node => node.type === 'LoadImage')"
UPLOADED = "name => app.graph.nodes.find(node => node.type === 'LoadImage').widgets[0].value === name"
JOINED = """() => {
  const portrait = app.graph.nodes.find(node => node.type === 'DelitPortrait');
  const link = app.graph.links.get(portrait.inputs.find(input => input.name === 'image').link);
  return link && app.graph.getNodeById(link.origin_id).type === 'LoadImage';
}"""
SEEN = """() => app.graph.nodes.filter(node => ['SaveImage', 'DelitSaveEnvMap'].includes(node.type))
  .every(node => node.imgs?.length && node.imgs.every(image => image.naturalWidth > 0))"""


def wait_for_files(server: ComfyServer, started: float) -> tuple[Path, Path]:
    folder = server.output / "delit"
    while time.monotonic() - started < FIVE_MINUTES:
        flat, env = list(folder.glob("flat*.png")), list(folder.glob("env*.exr"))
        if flat and env and not list(server.get("/queue")["queue_running"]):
            return flat[0], env[0]
        time.sleep(0.2)
    raise AssertionError(f"no PNG and EXR after {FIVE_MINUTES} s; there is {list(folder.rglob('*'))}")


@pytest.mark.browser
def test_from_the_first_page_to_a_saved_png_and_exr(
    other_server: ComfyServer, browser: Any, tmp_path: Path
) -> None:
    own = tmp_path / "me.jpg"
    Image.open(REPOSITORY / "portraits" / "photograph.jpg").crop((80, 0, 80 + WIDTH, HEIGHT)).save(
        own, quality=95
    )
    page = browser.new_page(viewport=WINDOW)
    person = Person(page, ARTIFACTS / "first_graph" / other_server.checkout.version)

    started = time.monotonic()
    page.goto(other_server.url)
    # The templates open by themselves on a first visit.
    extension = page.get_by_role("dialog").get_by_text(other_server.pack_name, exact=True)
    extension.first.wait_for(timeout=2 * PATIENCE)
    person.photograph("first_page")
    person.click(extension.first)
    card = page.get_by_role("dialog").get_by_text("delit_portrait", exact=True)
    card.first.wait_for(timeout=PATIENCE)
    person.photograph("templates_of_delit")
    person.click(card.first)
    page.wait_for_function(LOADED, timeout=PATIENCE)
    person.photograph("graph")

    person.add_node("Load Image", person.sees_empty_canvas())
    page.wait_for_function(ADDED, timeout=PATIENCE)
    person.photograph("load_image")
    person.choose_file(person.sees("LoadImage", "widget", "upload"), own)
    page.wait_for_function(UPLOADED, arg=own.name, timeout=PATIENCE)
    person.photograph("own_picture")
    person.drag(person.sees("LoadImage", "output", "IMAGE"), person.sees("DelitPortrait", "input", "image"))
    page.wait_for_function(JOINED, timeout=PATIENCE)
    person.photograph("joined")
    person.click(page.get_by_role("button", name="Run", exact=True).first)
    flat, env = wait_for_files(other_server, started)
    seconds = time.monotonic() - started
    page.wait_for_function(SEEN, timeout=PATIENCE)
    person.photograph("done")
    page.close()

    print(
        f"ComfyUI {other_server.checkout.version}: {person.clicks} clicks, {person.keys} keys, {seconds:.0f} s"
    )
    assert seconds < FIVE_MINUTES
    assert read_image(flat).shape[:2] == (HEIGHT, WIDTH), "the flat-lit image is of another picture"
    assert read_image(flat).shape[2] == 3
    radiance = read_env_map(env).radiance
    assert radiance.shape == (128, 256, 3) and radiance.isfinite().all() and radiance.max() > 0
