"""Names that are HTML reach the page as text: of maps, pictures, weights, and of what heads say of themselves.

Each name would set `window.ran` as soon as it became a part of the page. In ComfyUI's real front end, with canvas nodes
in Chinese and with Vue nodes in English, everything is looked at where a name is shown: a node's widgets and their
menus, the upload button, the viewer, a plate's own name, and the errors of ComfyUI and of Delit's extension.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from delit_models.env_map_files import write_env_map
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.heads_file import HeadsInfo, save_heads
from delit_models.image_files import write_image
from delit_models.pipeline import EMBEDDED_VAE
from tests.comfy.comfyui import ARTIFACTS, REPOSITORY, ComfyServer
from tests.comfy.pages import open_front_end
from tests.comfy.person import ON_SCREEN
from tests.comfy.test_viewer import RUN, viewer_server  # noqa: F401, a fixture

HTML = "<img src=x onerror=window.ran=1><svg onload=window.ran=2>"
MAP, OTHER_MAP, PICTURE = f"{HTML}.exr", f"{HTML}other.exr", f"{HTML}.png"
WEIGHTS = f"{HTML}.safetensors"
# What the names above would have put into the page, and what they would have done.
INJECTED = """() => ({
  ran: window.ran ?? null,
  elements: document.querySelectorAll('img[src="x"], svg[onload]').length,
})"""
NOTHING = {"ran": None, "elements": 0}
# A text that somebody who looks at the page can read.
READABLE = """text => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { textContent, parentElement } = walker.currentNode;
    if (textContent.includes(text) && parentElement.checkVisibility()
      && !['SCRIPT', 'STYLE'].includes(parentElement.tagName)) return true;
  }
  return [...document.querySelectorAll('input, textarea')].some(
    field => field.value.includes(text) && field.checkVisibility());
}"""
# Nodes with these widgets' values, and with inputs from [which of them, output].
ADD_NODES = """steps => {
  app.graph.clear();
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [0, 0];
  const nodes = steps.map(([type, values], index) => {
    const node = LiteGraph.createNode(type);
    node.pos = [420 * (index % 3) + 120, 380 * Math.floor(index / 3) + 120];
    app.graph.add(node);
    for (const [name, value] of Object.entries(values))
      node.widgets.find(widget => widget.name === name).value = value;
    return node;
  });
  steps.forEach(([, , links], index) => {
    for (const [name, [from, slot]] of Object.entries(links ?? {}))
      nodes[from].connect(slot, nodes[index], nodes[index].inputs.findIndex(input => input.name === name));
  });
}"""
QUEUE = "() => app.queuePrompt(0)"


@pytest.fixture(scope="module")
def named_server(viewer_server: ComfyServer) -> Iterator[ComfyServer]:  # noqa: F811
    """A server whose input and model folders hold files of such names."""
    server = viewer_server
    light = torch.rand(16, 32, 3)
    for name in (MAP, f"{HTML}/{MAP}"):
        write_env_map(server.input / name, light)
    write_image(server.input / PICTURE, torch.rand(80, 80, 3))
    shutil.copy(EMBEDDED_VAE, server.models / "vae" / WEIGHTS)
    heads = DelitHeads(DelitConfig(extractor_widths=(8, 8, 8), env_decoder_widths=(8, 8, 8, 8)))
    info = HeadsInfo(name=f"{HTML}heads", vae_name=f"{HTML}VAE", licence=HTML)
    save_heads(server.models / "delit" / WEIGHTS, heads, torch.ones(1, 16, 8, 8), info)
    yield server
    shutil.rmtree(server.input / HTML)
    for path in (
        *(server.input / name for name in (MAP, OTHER_MAP, PICTURE)),
        *(server.models / folder / WEIGHTS for folder in ("vae", "delit")),
    ):
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module", params=[("canvas", "zh"), ("vue", "en")], ids=["canvas-zh", "vue-en"])
def opened(request: pytest.FixtureRequest, named_server: ComfyServer, browser: Any) -> Iterator[Any]:
    kind, language = request.param
    settings = {"Comfy.VueNodes.Enabled": kind == "vue", "Comfy.Locale": language}
    page = open_front_end(browser, named_server, settings)
    page.kind, page.language = kind, language
    yield page
    page.close()


@pytest.fixture
def named_page(opened: Any, named_server: ComfyServer, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page; whatever a test has shown on it, nothing of it may have become a part of the page."""
    yield opened
    opened.wait_for_timeout(500)
    ARTIFACTS.mkdir(exist_ok=True)
    name = f"{request.node.originalname}-{opened.kind}-comfyui-{named_server.checkout.version}.png"
    opened.screenshot(path=ARTIFACTS / name)
    assert opened.evaluate(INJECTED) == NOTHING
    for _ in range(3):
        opened.keyboard.press("Escape")
    opened.evaluate("() => app.graph.clear()")


def shows(page: Any, text: str) -> None:
    """Wait until a text can be read on the page."""
    page.wait_for_function(READABLE, arg=text, timeout=60_000)


def click_widget(page: Any, node: str, widget: str, shown: str) -> None:
    """A click on a widget, which shows that text where nodes are a part of the page."""
    if page.kind == "vue":
        page.get_by_text(shown, exact=True).locator("visible=true").first.click()
        return
    place = page.wait_for_function(ON_SCREEN, arg=[node, "widget", widget]).json_value()
    # From elsewhere: the canvas looks what is under a pointer that moves.
    page.mouse.move(place[0] + 300, place[1] + 300)
    page.mouse.move(*place, steps=4)
    page.wait_for_timeout(300)
    page.mouse.click(*place, delay=60)


@pytest.mark.browser
def test_such_a_name_runs_where_it_is_taken_for_html(browser: Any) -> None:
    """That the tests below would see it."""
    page = browser.new_page()
    page.evaluate("name => document.body.insertAdjacentHTML('beforeend', name)", MAP)
    page.wait_for_function("() => window.ran")
    found = page.evaluate(INJECTED)
    assert found["ran"] in (1, 2) and found["elements"] == 2
    assert not page.evaluate(READABLE, HTML)
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("node", "widget", "name"),
    [
        ("DelitLoadEnvMap", "file", MAP),
        ("DelitLoadEnvMap", "file", f"{HTML}/{MAP}"),
        ("DelitLoadWanVAE", "vae_name", WEIGHTS),
        ("DelitLoadModel", "model_name", WEIGHTS),
    ],
    ids=["map", "folder", "vae", "heads"],
)
def test_names_of_files_are_text_in_widgets_and_menus(
    named_page: Any, node: str, widget: str, name: str
) -> None:
    named_page.evaluate(ADD_NODES, [[node, {widget: name}]])
    named_page.wait_for_timeout(500)
    if named_page.kind == "vue":
        shows(named_page, name)
    click_widget(named_page, node, widget, name)
    named_page.wait_for_timeout(1000)
    shows(named_page, name)


@pytest.mark.browser
def test_names_of_uploaded_maps_are_text(named_page: Any, named_server: ComfyServer, tmp_path: Path) -> None:
    """The upload button: a file that arrives, and one that does not."""
    write_env_map(tmp_path / OTHER_MAP, torch.rand(16, 32, 3))
    named_page.evaluate(ADD_NODES, [["DelitLoadEnvMap", {"file": MAP}]])
    label = {"en": "choose file to upload", "zh": "选择文件上传"}[named_page.language]

    def upload() -> None:
        with named_page.expect_file_chooser() as chooser:
            click_widget(named_page, "DelitLoadEnvMap", "upload", label)
        chooser.value.set_files(tmp_path / OTHER_MAP)

    upload()
    value = "name => app.graph.nodes[0].widgets[0].value === name"
    named_page.wait_for_function(value, arg=OTHER_MAP, timeout=30_000)
    assert (named_server.input / OTHER_MAP).is_file()
    named_page.route("**/upload/image", lambda route: route.fulfill(status=507))
    upload()
    failed = {"en": "could not be uploaded", "zh": "上传失败"}[named_page.language]
    shows(named_page, f"{OTHER_MAP} {failed}")
    named_page.unroute("**/upload/image")


@pytest.mark.browser
def test_a_map_of_such_a_name_in_the_viewer_and_saved(named_page: Any, named_server: ComfyServer) -> None:
    steps = [
        ["DelitLoadEnvMap", {"file": MAP}],
        ["DelitPreviewEnvMap", {}, {"env": [0, 0]}],
        ["DelitSaveEnvMap", {"filename_prefix": f"html/{HTML}"}, {"env": [1, 0]}],
    ]
    named_page.evaluate(ADD_NODES, steps)
    named_page.evaluate(QUEUE)
    named_page.wait_for_function(RUN, arg=1, timeout=120_000)
    saved = "() => app.graph.nodes.some(node => node.type === 'DelitSaveEnvMap' && node.imgs?.length)"
    if named_page.kind == "canvas":
        named_page.wait_for_function(saved, timeout=60_000)
    else:
        shows(named_page, MAP)
    assert list((named_server.output / "html").glob("<img*.exr"))


ERRORS: dict[str, tuple[list[list[Any]], str]] = {
    "no such map": ([["DelitLoadEnvMap", {"file": f"{HTML}gone.exr"}], ["DelitPreviewEnvMap", {}, {"env": [0, 0]}]],
                    f"{HTML}gone.exr"),
    "no such plate": ([["DelitLoadPlate", {"file": f"{HTML}gone.exr"}], ["PreviewImage", {}, {"images": [0, 0]}]],
                      f"{HTML}gone.exr"),
    "heads of another VAE": (
        [["DelitExamplePortrait", {}], ["DelitLoadModel", {"model_name": WEIGHTS}],
         ["DelitPortrait", {}, {"image": [0, 0], "delit_model": [1, 0]}], ["PreviewImage", {}, {"images": [2, 0]}]],
        f"“{HTML}heads” were trained with the VAE “{HTML}VAE”",
    ),
}  # fmt: skip


@pytest.mark.browser
@pytest.mark.parametrize("which", ERRORS)
def test_names_in_errors_are_text(named_page: Any, which: str) -> None:
    steps, told = ERRORS[which]
    named_page.evaluate(ADD_NODES, steps)
    named_page.evaluate(QUEUE)
    shows(named_page, told)
    if named_page.language == "zh" and which != "no such map":
        # Delit's own line beside it, by web/chinese; a value that is refused before the run is ComfyUI's to tell.
        named_page.locator(".p-toast-message", has_text=told).first.wait_for(timeout=30_000)


@pytest.mark.browser
def test_titles_and_notes_of_a_workflow_run_nothing(named_page: Any) -> None:
    """Titles are text; a note is Markdown, which ComfyUI renders without what could run."""
    name = json.loads((REPOSITORY / "workflows" / "delit_portrait.json").read_text(encoding="utf-8"))
    for node in name["nodes"]:
        node["title"] = f"{HTML}{node['type']}"
        if node["type"] == "MarkdownNote":
            node["widgets_values"] = [f"seen {HTML}"]
    for group in name["groups"]:
        group["title"] = HTML
    named_page.evaluate("graph => app.loadGraphData(graph)", name)
    named_page.wait_for_function("text => document.body.innerText.includes(text)", arg="seen", timeout=30_000)
    if named_page.kind == "vue":
        shows(named_page, f"{HTML}DelitPortrait")
    named_page.wait_for_timeout(1000)
    found = named_page.evaluate(
        "() => [window.ran ?? null, document.querySelectorAll('[onerror], [onload]').length]"
    )
    assert found == [None, 0]
