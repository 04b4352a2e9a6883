"""Pages of ComfyUI's front end as one finds it that has been used before; test_first_graph.py has the first visit."""

from __future__ import annotations

from typing import Any

from tests.comfy.comfyui import ComfyServer

READY = """() => Boolean(window.app?.graph && app.extensionManager?.setting
  && window.LiteGraph?.registered_node_types?.DelitPortrait)"""
DIALOGS = """() => [...document.querySelectorAll('[role=dialog], .p-dialog, .comfy-modal, .p-toast-message-error')]
  .filter(element => element.checkVisibility() && element.innerText.trim()).map(element => element.innerText)"""
# The template browser opens by itself where this is not set.
USED_BEFORE = {"Comfy.TutorialCompleted": True}


def open_front_end(
    browser: Any,
    server: ComfyServer,
    settings: dict[str, Any] | None = None,
    size: tuple[int, int] = (1600, 1000),
    scripts: tuple[str, ...] = (),
    **context: Any,
) -> Any:
    """A page with these settings of ComfyUI's, no dialog open; the server's own, which other pages share, stay as
    they are. `scripts` run before the page's; what goes wrong in scripts is in `page.troubles`."""
    chosen = {**USED_BEFORE, **(settings or {})}

    def with_settings(route: Any) -> None:
        if route.request.method == "GET":
            route.fulfill(json={**route.fetch().json(), **chosen})
        else:
            route.continue_()

    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **context)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.route("**/api/settings", with_settings)
    for script in scripts:
        page.add_init_script(script)
    page.goto(server.url)
    page.wait_for_function(READY, timeout=120_000)
    close_dialogs(page)
    return page


def close_dialogs(page: Any) -> None:
    """Some open a while after the front end is there."""
    quiet = 0
    for _ in range(40):
        page.wait_for_timeout(250)
        quiet = 0 if page.evaluate(DIALOGS) else quiet + 1
        if quiet == 4:
            return
        if quiet == 0:
            page.keyboard.press("Escape")
    raise AssertionError(f"a dialog stays open: {page.evaluate(DIALOGS)}")
