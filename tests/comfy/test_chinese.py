"""ComfyUI's front end set to Chinese: notes, titles, the upload button, and the first line of an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.comfy.comfyui import ARTIFACTS, REPOSITORY, ComfyServer
from tests.comfy.pages import open_front_end

NOTES = (
    "() => app.graph.nodes.filter(node => node.type === 'MarkdownNote').map(node => node.widgets[0].value)"
)


@pytest.fixture(scope="module")
def chinese_page(running_server: ComfyServer, browser: Any) -> Iterator[Any]:
    """A front end in Chinese."""
    page = open_front_end(browser, running_server, {"Comfy.Locale": "zh"}, locale="zh-CN")
    yield page
    page.close()


@pytest.mark.browser
def test_notes_titles_and_the_upload_button(server: ComfyServer, chinese_page: Any) -> None:
    place = f"/api/workflow_templates/{server.pack_name}/delit_portrait.json"
    chinese_page.evaluate("async place => app.loadGraphData(await (await fetch(place)).json())", place)
    chinese_page.wait_for_timeout(1500)
    assert all("去除" in note or "贴图" in note for note in chinese_page.evaluate(NOTES))
    groups = chinese_page.evaluate("() => app.graph.groups.map(group => group.title)")
    assert "2 · 去除光照" in groups
    ARTIFACTS.mkdir(exist_ok=True)
    chinese_page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    chinese_page.wait_for_timeout(1500)
    chinese_page.screenshot(path=ARTIFACTS / f"chinese-comfyui-{server.checkout.version}.png")
    label = chinese_page.evaluate(
        "() => LiteGraph.createNode('DelitLoadEnvMap').widgets.find(({ type }) => type === 'button').label"
    )
    assert label == "选择文件上传"


@pytest.mark.browser
def test_a_note_that_the_user_has_changed_stays(server: ComfyServer, chinese_page: Any) -> None:
    workflow = json.loads((REPOSITORY / "workflows" / "delit_portrait.json").read_text(encoding="utf-8"))
    next(n for n in workflow["nodes"] if n["type"] == "MarkdownNote")["widgets_values"] = ["my own words"]
    chinese_page.evaluate("graph => app.loadGraphData(graph)", workflow)
    chinese_page.wait_for_timeout(1000)
    assert "my own words" in chinese_page.evaluate(NOTES)


@pytest.mark.browser
def test_an_error_says_in_chinese_what_is_wrong(server: ComfyServer, chinese_page: Any) -> None:
    Image.new("RGB", (32, 32)).save(server.input / "too_small.png")
    workflow = json.loads((REPOSITORY / "workflows" / "delit_portrait.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "DelitExamplePortrait":
            node.update(type="LoadImage", widgets_values=["too_small.png", "image"], inputs=[])
            node["properties"] = {}
    chinese_page.evaluate("graph => app.loadGraphData(graph)", workflow)
    chinese_page.wait_for_timeout(1000)
    chinese_page.evaluate("() => app.queuePrompt(0)")
    toast = chinese_page.locator(".p-toast-message", has_text="图像太小")
    toast.wait_for(timeout=60_000)
    assert "The image is 32×32 pixels" in toast.inner_text()
    chinese_page.screenshot(path=ARTIFACTS / f"chinese-error-comfyui-{server.checkout.version}.png")
