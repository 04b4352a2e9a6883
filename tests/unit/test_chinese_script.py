"""web/chinese/chinese.js in Chromium, with as much of ComfyUI's front end as it touches (the real one: tests/comfy)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import chromium

REPOSITORY = Path(__file__).parents[2]
ORIGIN = "http://comfyui.test"
SCRIPTS = {
    "/": "<!doctype html><title>ComfyUI</title>",
    "/scripts/api.js": "export const api = new EventTarget();",
    "/scripts/app.js": """export const app = {
        told: [],
        extensionManager: { toast: { add: (toast) => app.told.push(toast) } },
        ui: { settings: { getSettingValue: () => app.locale } },
        registerExtension: (extension) => { app.extension = extension; },
    };""",
}
PAGE = """async ([locale, graph, errors]) => {
  const { app } = await import("/scripts/app.js");
  const { api } = await import("/scripts/api.js");
  Object.assign(app, { locale, graph });
  await import("/extensions/delit/chinese/chinese.js");
  await app.extension.init();
  app.extension.afterConfigureGraph();
  for (const detail of errors) api.dispatchEvent(new CustomEvent("execution_error", { detail }));
  return { graph: app.graph, told: app.told };
}"""
MODULE = "/somewhere/custom_nodes/delit.delit_models.errors"
TOO_SMALL = "The image is 32×32 pixels; Delit needs at least 64 on each side."


def _answer(route: Any) -> None:
    place = route.request.url.removeprefix(ORIGIN)
    kind = (
        "text/html" if place == "/" else "application/json" if place.endswith(".json") else "text/javascript"
    )
    file = REPOSITORY / "web" / place.removeprefix("/extensions/delit/")
    body = SCRIPTS[place] if place in SCRIPTS else file.read_text(encoding="utf-8")
    route.fulfill(body=body, content_type=f"{kind}; charset=utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Any):
    def show(locale: str, graph: dict, errors: list[dict]) -> dict:
        page = browser.new_page()
        page.route(f"{ORIGIN}/**", _answer)
        page.goto(f"{ORIGIN}/")
        shown = page.evaluate(PAGE, [locale, graph, errors])
        page.close()
        return shown

    return show


def graph_of(workflow: dict) -> dict:
    nodes = [
        {
            "type": n["type"],
            "title": n.get("title"),
            "widgets": [{"value": v} for v in n.get("widgets_values") or []],
        }
        for n in workflow["nodes"]
    ]
    return {"nodes": nodes, "groups": [{"title": group["title"]} for group in workflow["groups"]]}


@pytest.fixture
def graph() -> dict:
    return graph_of(
        json.loads((REPOSITORY / "workflows" / "delit_portrait.json").read_text(encoding="utf-8"))
    )


def notes(graph: dict) -> list[str]:
    return [node["widgets"][0]["value"] for node in graph["nodes"] if node["type"] == "MarkdownNote"]


@pytest.mark.parametrize("locale", ["zh", "zh-TW"])
def test_notes_and_titles_become_chinese(page, graph, locale):
    shown = page(locale, graph, [])["graph"]
    assert all("贴图" in note for note in notes(shown))
    assert "2 · 去除光照" in [group["title"] for group in shown["groups"]]
    assert [node["type"] for node in shown["nodes"]] == [node["type"] for node in graph["nodes"]]


def test_changed_notes_and_other_packs_graphs_stay(page, graph):
    graph["nodes"][0]["widgets"][0]["value"] = "my own words"
    assert "my own words" in notes(page("zh", graph, [])["graph"])
    others = {"nodes": [{"type": "Note", "title": "Flat-lit", "widgets": []}], "groups": []}
    assert page("zh", others, [])["graph"] == others


def test_other_languages_stay(page, graph):
    error = {"exception_type": f"{MODULE}.DelitError", "exception_message": TOO_SMALL}
    shown = page("fr", graph, [error])
    assert shown["graph"] == graph and shown["told"] == []


def test_an_error_is_told_in_chinese(page, graph):
    errors = [
        {"exception_type": f"{MODULE}.DelitError", "exception_message": TOO_SMALL},
        {
            "exception_type": f"{MODULE}.DelitError",
            "exception_message": "something that nobody has translated",
        },
        {"exception_type": f"{MODULE}.CheckpointError", "exception_message": "something else"},
        {"exception_type": "ValueError", "exception_message": "of another pack"},
    ]
    told = page("zh", graph, errors)["told"]
    assert told[0] == {"severity": "error", "summary": "图像太小：每边至少 64 像素。", "detail": TOO_SMALL}
    assert (
        told[1]["summary"].startswith("Delit 无法处理这个输入")
        and "nobody has translated" in told[1]["detail"]
    )
    assert told[2]["summary"].startswith("权重文件无法使用")
    assert len(told) == 3, "errors of other packs are theirs to tell"
