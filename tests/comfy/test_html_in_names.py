"""Names that are HTML reach the page as text: of maps, pictures, weights, and of what heads say of themselves.

Each name would set `window.ran` as soon as it became a part of the page. In ComfyUI's real front end, with canvas nodes
and with Vue's, everything is looked at where a name is shown: a node's widgets and their menus, the upload button, the
viewer, titles and notes, and the errors of ComfyUI and of Delit's extension.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from delit_models.env_map_files import write_env_map
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.heads_file import HeadsInfo, save_heads
from delit_models.pipeline import EMBEDDED_VAE
from tests.comfy.comfyui import ARTIFACTS, REPOSITORY, ComfyServer
from tests.comfy.conftest import CHECKOUTS
from tests.comfy.pages import open_front_end
from tests.comfy.person import ON_SCREEN
from tests.comfy.test_viewer import RUN, viewer_server  # noqa: F401, a fixture

HTML = "<img src=x onerror=window.ran=1><svg onload=window.ran=2>"
MAP, OTHER_MAP = f"{HTML}.exr", f"{HTML}other.exr"
WEIGHTS, DAMAGED_MAP, DAMAGED_WEIGHTS = f"{HTML}.safetensors", f"{HTML}cut.exr", f"{HTML}cut.safetensors"
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
    if server.checkout != CHECKOUTS[-1]:
        pytest.skip(
            "of the newest ComfyUI only: in 0.8.0 core's own menus take names for HTML, whosever node it is"
        )
    light = torch.rand(16, 32, 3)
    for name in (MAP, f"{HTML}/{MAP}"):
        write_env_map(server.input / name, light)
    shutil.copy(EMBEDDED_VAE, server.models / "vae" / WEIGHTS)
    for whole, damaged in (
        (server.input / MAP, server.input / DAMAGED_MAP),
        (EMBEDDED_VAE, server.models / "vae" / DAMAGED_WEIGHTS),
    ):
        damaged.write_bytes(whole.read_bytes()[:300])
    heads = DelitHeads(DelitConfig(extractor_widths=(8, 8, 8), env_decoder_widths=(8, 8, 8, 8)))
    info = HeadsInfo(name=f"{HTML}heads", vae_name=f"{HTML}VAE", licence=HTML)
    save_heads(server.models / "delit" / WEIGHTS, heads, torch.ones(1, 16, 8, 8), info)
    yield server
    shutil.rmtree(server.input / HTML)
    for path in (
        *(server.input / name for name in (MAP, OTHER_MAP, DAMAGED_MAP)),
        *(server.models / "vae" / name for name in (WEIGHTS, DAMAGED_WEIGHTS)),
        server.models / "delit" / WEIGHTS,
    ):
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module", params=["canvas", "vue"])
def opened(request: pytest.FixtureRequest, named_server: ComfyServer, browser: Any) -> Iterator[Any]:
    """The front end in Chinese, where Delit's extensions say most."""
    settings = {"Comfy.VueNodes.Enabled": request.param == "vue", "Comfy.Locale": "zh"}
    page = open_front_end(browser, named_server, settings, locale="zh-CN")
    page.kind = request.param
    yield page
    page.close()


@pytest.fixture
def named_page(opened: Any, named_server: ComfyServer, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page; whatever a test has shown on it, nothing of it may have become a part of the page."""
    yield opened
    opened.wait_for_timeout(500)
    ARTIFACTS.mkdir(exist_ok=True)
    name = re.sub(r"[^\w.]+", "-", request.node.name).strip("-")
    opened.screenshot(path=ARTIFACTS / f"{name}.png")
    assert opened.evaluate(INJECTED) == NOTHING
    opened.keyboard.press("Escape")
    opened.evaluate("() => { LiteGraph.closeAllContextMenus?.(); app.graph.clear(); }")


def shows(page: Any, text: str) -> None:
    """Wait until a text can be read on the page."""
    page.wait_for_function(READABLE, arg=text, timeout=40_000)


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
    # ComfyUI would number a second file of that name.
    (named_server.input / OTHER_MAP).unlink(missing_ok=True)

    def upload() -> None:
        with named_page.expect_file_chooser() as chooser:
            click_widget(named_page, "DelitLoadEnvMap", "upload", "选择文件上传")
        chooser.value.set_files(tmp_path / OTHER_MAP)

    upload()
    value = "name => app.graph.nodes[0].widgets[0].value === name"
    named_page.wait_for_function(value, arg=OTHER_MAP, timeout=30_000)
    assert (named_server.input / OTHER_MAP).is_file()
    named_page.route("**/upload/image", lambda route: route.fulfill(status=507))
    upload()
    shows(named_page, f"{OTHER_MAP} 上传失败")
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
    "damaged map": (
        [["DelitLoadEnvMap", {"file": DAMAGED_MAP}], ["DelitPreviewEnvMap", {}, {"env": [0, 0]}]],
        DAMAGED_MAP,
    ),
    "damaged VAE": (
        [
            ["DelitExamplePortrait", {}],
            ["DelitLoadWanVAE", {"vae_name": DAMAGED_WEIGHTS}],
            ["DelitPortrait", {}, {"image": [0, 0], "vae": [1, 0]}],
            ["PreviewImage", {}, {"images": [2, 0]}],
        ],
        DAMAGED_WEIGHTS,
    ),
    "heads of another VAE": (
        [
            ["DelitExamplePortrait", {}],
            ["DelitLoadModel", {"model_name": WEIGHTS}],
            ["DelitPortrait", {}, {"image": [0, 0], "delit_model": [1, 0]}],
            ["PreviewImage", {}, {"images": [2, 0]}],
        ],
        f"“{HTML}heads” were trained with the VAE “{HTML}VAE”",
    ),
}


@pytest.mark.browser
@pytest.mark.parametrize("which", ERRORS)
def test_names_in_errors_are_text(named_page: Any, which: str) -> None:
    """In what ComfyUI shows of an error, and in Delit's own line beside it (web/chinese)."""
    steps, told = ERRORS[which]
    named_page.evaluate(ADD_NODES, steps)
    named_page.evaluate(QUEUE)
    shows(named_page, told)
    # The name may be seen in the node's own widget before the error is there.
    named_page.locator(".p-toast-message", has_text=told).first.wait_for(timeout=60_000)


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
