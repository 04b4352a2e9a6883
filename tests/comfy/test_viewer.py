"""The environment map's viewer in the real front ends, canvas nodes and Vue nodes, in headless Chromium as a user acts:
what is on its canvas is read back and compared with what numpy draws of the same map. Screenshots go to artifacts/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from delit_models.env_map_files import read_env_map
from delit_models.key_lights import find_key_lights
from delit_models.lat_long import direction_to_pixel, rotate_env
from tests.chromium import SOFTWARE_WEBGL, chromium
from tests.comfy import graphs
from tests.comfy.comfyui import ARTIFACTS, Checkout, ComfyServer
from tests.comfy.front_ends import own_front_end
from tests.comfy.pages import DIALOGS, open_front_end
from tests.comfy.test_bad_input import refused
from tests.comfy.viewer_page import (
    ADD_NODES,
    COUNT_CONTEXTS,
    FIELD_OF_VIEW,
    LAMP,
    MAPS,
    ViewerPage,
    assert_balls,
    bright_center,
    in_false_colors,
    looked_at,
    on_screen,
    place_of,
    turn,
)

AT = [420, 80]
RUN = """count => {
  const panels = [...document.querySelectorAll('.delit-env-viewer')];
  return panels.length >= count && panels.every(panel => panel.querySelector('.light').textContent
    && panel.querySelector('.stage').ariaBusy === 'false');
}"""


@pytest.fixture(scope="module")
def viewer_server(checkout: Checkout, request: pytest.FixtureRequest) -> ComfyServer:
    """A server with the front end that this ComfyUI came with."""
    return request.getfixturevalue("running_server" if own_front_end(checkout) is None else "other_server")


@pytest.fixture(scope="module")
def webgl_browser() -> Iterator[Any]:
    with chromium(SOFTWARE_WEBGL) as started:
        yield started


def open_page(browser: Any, server: ComfyServer, kind: str, language: str = "en") -> Any:
    """The front end with canvas or Vue nodes."""
    settings = {"Comfy.VueNodes.Enabled": kind == "vue", "Comfy.Locale": language}
    return open_front_end(browser, server, settings, (1300, 900), (f"({COUNT_CONTEXTS})()",))


def run_graph(page: Any, files: list[str]) -> list[int]:
    """Viewers of .npy files of the input folder on an empty graph, run; their ids."""
    nodes = page.evaluate(ADD_NODES, [files, AT])
    page.evaluate("() => app.queuePrompt(0)")
    page.wait_for_function(RUN, arg=len(files), timeout=120_000)
    return nodes


@pytest.fixture(scope="module", params=["canvas", "vue"])
def opened(
    request: pytest.FixtureRequest, viewer_server: ComfyServer, webgl_browser: Any
) -> Iterator[ViewerPage]:
    page = open_page(webgl_browser, viewer_server, request.param)
    run_graph(page, [viewer_server.put_array("maps", MAPS)])
    page.kind = request.param
    yield ViewerPage(page)
    page.close()


@pytest.fixture
def viewer(opened: ViewerPage) -> Iterator[ViewerPage]:
    """The viewer as it is at first, without balls; a script's error fails the test."""
    opened.start()
    yield opened
    assert opened.page.troubles == []


def shoot(viewer: ViewerPage, server: ComfyServer, name: str) -> None:
    viewer.settle()
    ARTIFACTS.mkdir(exist_ok=True)
    viewer.page.screenshot(
        path=ARTIFACTS / f"viewer-{name}-{viewer.page.kind}-comfyui-{server.checkout.version}.png"
    )


def assert_same(shown: np.ndarray, expected: np.ndarray) -> None:
    difference = np.abs(shown - expected)
    # The ring around the main light covers a little of the picture.
    assert np.median(difference) <= 1 and (difference > 3).mean() < 0.02, np.quantile(
        difference, [0.5, 0.9, 1]
    )


@pytest.mark.browser
def test_a_lamp_is_where_it_is(viewer: ViewerPage, viewer_server: ComfyServer) -> None:
    picture = viewer.picture()
    assert bright_center(picture) == pytest.approx(place_of(LAMP, picture.shape[:2]), abs=1.5)
    viewer.press("Lat-long")
    picture = viewer.picture()
    height, width = picture.shape[:2]
    u, v = direction_to_pixel(torch.from_numpy(LAMP)).tolist()
    high = min(height, width / 2)
    expected = (width / 2 + (u - 0.5) * 2 * high, height / 2 + (v - 0.5) * high)
    assert bright_center(picture) == pytest.approx(expected, abs=1.5)
    shoot(viewer, viewer_server, "flat")


@pytest.mark.browser
def test_the_picture_is_numpys(viewer: ViewerPage) -> None:
    viewer.set_slider("Map", 2)
    picture = viewer.picture()
    assert_same(picture, on_screen(looked_at(MAPS[1], picture.shape[:2])))


@pytest.mark.browser
def test_a_drag_turns(viewer: ViewerPage, viewer_server: ComfyServer) -> None:
    before = bright_center(viewer.picture())
    viewer.drag(-50, 30)
    picture = viewer.picture()
    size = picture.shape[:2]
    yaw, pitch = 50 * FIELD_OF_VIEW / size[0], 30 * FIELD_OF_VIEW / size[0]
    after = bright_center(picture)
    assert after[0] < before[0] - 30 and after[1] > before[1] + 20
    assert after == pytest.approx(place_of(LAMP, size, yaw, pitch), abs=2)
    viewer.set_slider("Map", 2)
    assert_same(viewer.picture(), on_screen(looked_at(MAPS[1], size, yaw, pitch)))
    assert viewer.page.evaluate("() => app.canvas.ds.offset") in ([0, 0], {"0": 0, "1": 0}), "the graph moved"
    viewer.button("Reset view").click()
    viewer.set_slider("Map", 1)
    assert bright_center(viewer.picture()) == pytest.approx(before, abs=0.5)


@pytest.mark.browser
def test_the_wheel_zooms_the_map_and_with_ctrl_the_graph(viewer: ViewerPage) -> None:
    viewer.set_slider("Map", 2)
    viewer.wheel(4)
    picture = viewer.picture()
    field = FIELD_OF_VIEW / math.exp(0.48)
    assert_same(picture, on_screen(looked_at(MAPS[1], picture.shape[:2], field=field)))
    assert viewer.page.evaluate("() => app.canvas.ds.scale") == 1
    viewer.page.keyboard.down("Control")
    viewer.wheel(-1)
    viewer.page.keyboard.up("Control")
    assert viewer.page.evaluate("() => app.canvas.ds.scale") < 1
    viewer.page.evaluate(
        "() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0]; app.canvas.setDirty(true, true) }"
    )
    viewer.page.wait_for_timeout(300)
    assert_same(viewer.picture(), picture)


@pytest.mark.browser
def test_exposure_brightens(viewer: ViewerPage) -> None:
    viewer.set_slider("Map", 2)
    size = viewer.picture().shape[:2]
    viewer.set_slider("Exposure", 1.5)
    assert_same(viewer.picture(), on_screen(looked_at(MAPS[1], size), 1.5))
    viewer.set_slider("Map", 3)
    viewer.button("Auto").click()
    # An even map of 0.18 is brought to 0.5.
    assert viewer.picture().mean() == pytest.approx(on_screen(np.array([0.5]))[0], abs=4)


@pytest.mark.browser
def test_the_keyboard_does_it_all(viewer: ViewerPage) -> None:
    before = bright_center(viewer.picture())
    viewer.canvas.focus()
    keys = viewer.page.keyboard
    keys.press("ArrowRight")
    right = bright_center(viewer.picture())
    keys.press("ArrowUp")
    up = bright_center(viewer.picture())
    assert right[0] < before[0] - 5 and up[1] > right[1] + 5
    keys.press("PageUp")
    keys.press("Home")
    assert bright_center(viewer.picture()) == pytest.approx(before, abs=0.5)
    viewer.set_slider("Map", 2)
    viewer.canvas.focus()
    keys.press("+")
    keys.press("+")
    keys.press("-")
    picture = viewer.picture()
    assert_same(picture, on_screen(looked_at(MAPS[1], picture.shape[:2]), 0.5))


@pytest.mark.browser
def test_false_colours_show_stops(viewer: ViewerPage, viewer_server: ComfyServer) -> None:
    viewer.set_slider("Map", 2)
    viewer.set_slider("Exposure", 1)
    viewer.press("False colours")
    picture = viewer.picture()
    expected = in_false_colors(looked_at(MAPS[1], picture.shape[:2]), 1)
    left = slice(0, picture.shape[1] * 3 // 4)  # The scale is at the right.
    same = (np.abs(picture - expected)[:, left] <= 1).all(-1)
    assert same.mean() > 0.97
    assert len(np.unique(expected[:, left].reshape(-1, 3), axis=0)) >= 4, (
        "the map is of too few stops to tell"
    )
    shoot(viewer, viewer_server, "false-colours")


@pytest.mark.browser
def test_the_balls_are_lit_by_the_map(viewer: ViewerPage, viewer_server: ComfyServer) -> None:
    viewer.set_slider("Map", 2)
    viewer.press("Balls")
    assert_balls(viewer.picture(), MAPS[1])
    shoot(viewer, viewer_server, "balls")
    viewer.drag(-90, 40)
    picture = viewer.picture()
    yaw, pitch = (pixels * FIELD_OF_VIEW / picture.shape[0] for pixels in (90, 40))
    towards_camera = torch.from_numpy(turn(yaw, pitch).T.copy())
    assert_balls(picture, rotate_env(torch.from_numpy(MAPS[1]), towards_camera).numpy())


@pytest.mark.browser
def test_the_main_light_in_words(viewer: ViewerPage) -> None:
    text = viewer.panel.locator(".light").inner_text()
    light = find_key_lights(torch.from_numpy(MAPS[0])).lights[0]
    assert "behind the subject" in text
    assert f"{light.azimuth:.0f}° around" in text and f"{light.elevation:.0f}° up" in text
    assert f"+{light.stops:.1f} stops" in text or f"−{-light.stops:.1f} stops" in text
    viewer.set_slider("Map", 3)
    assert "No main light" in viewer.panel.locator(".light").inner_text()
    assert viewer.page.evaluate(DIALOGS) == []


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["canvas", "vue"])
def test_many_viewers_share_a_context_and_the_last_gives_it_back(
    viewer_server: ComfyServer, webgl_browser: Any, kind: str
) -> None:
    page = open_page(webgl_browser, viewer_server, kind)
    file = viewer_server.put_array("maps", MAPS[1:2])
    nodes = run_graph(page, [file] * 20)
    page.wait_for_timeout(2000)
    shown = page.evaluate(
        """() => [...document.querySelectorAll('.delit-env-viewer canvas')].map(canvas => {
          const { data } = canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1);
          return data[0] + data[1] + data[2];
        })"""
    )
    # Those off the screen draw when they come onto it.
    assert sum(value > 0 for value in shown) >= 17, shown
    assert page.evaluate("() => liveContexts()") == 1
    remove = "ids => ids.forEach(id => app.graph.remove(app.graph.getNodeById(id)))"
    page.evaluate(remove, nodes[1:])
    page.wait_for_timeout(500)
    assert page.evaluate("() => liveContexts()") == 1
    page.evaluate(remove, nodes[:1])
    page.wait_for_timeout(500)
    assert page.evaluate("() => liveContexts()") == 0
    run_graph(page, [file])
    assert ViewerPage(page).picture().max() > 0, "a viewer after the last one draws nothing"
    assert page.troubles == []
    page.close()


@pytest.mark.browser
def test_an_earlier_run_is_shown_again(viewer_server: ComfyServer, webgl_browser: Any) -> None:
    page = open_page(webgl_browser, viewer_server, "canvas")
    run_graph(page, [viewer_server.put_array("maps", MAPS)])
    viewer = ViewerPage(page)
    viewer.press("Balls", False)
    before = viewer.picture()
    # As undo does: the nodes are made anew.
    page.evaluate("() => app.loadGraphData(app.graph.serialize(), false, false)")
    page.wait_for_timeout(500)
    page.wait_for_function(RUN, arg=1)
    viewer.press("Balls", False)
    np.testing.assert_array_equal(viewer.picture(), before)
    command = "name => app.extensionManager.command.execute(name)"
    page.evaluate(command, "Comfy.NewBlankWorkflow")
    page.wait_for_timeout(1000)
    assert viewer.panel.count() == 0 and page.evaluate("() => liveContexts()") == 0
    page.evaluate(command, "Workspace.PreviousOpenedWorkflow")
    page.wait_for_timeout(3000)
    if page.evaluate("() => Object.keys(app.nodeOutputs).length") == 0:
        assert page.troubles == []
        page.close()
        pytest.skip("this front end forgets what nodes have shown when another workflow is opened")
    page.wait_for_function(RUN, arg=1)
    viewer.press("Balls", False)
    np.testing.assert_array_equal(viewer.picture(), before)
    of_this_page = (
        "() => Object.values(app.nodeOutputs).flatMap(o => o.delit_env_maps ?? []).map(m => m.filename)"
    )
    for name in page.evaluate(of_this_page):
        (viewer_server.base / "temp" / name).unlink()
    viewer.panel.get_by_role("slider", name="Map").fill("2")
    viewer.panel.get_by_text("Run the graph again").wait_for()
    assert page.troubles == []
    page.close()


@pytest.mark.browser
def test_a_lost_context_is_replaced(viewer: ViewerPage) -> None:
    viewer.set_slider("Map", 2)
    before = viewer.picture()
    viewer.page.evaluate("() => loseContexts()")
    viewer.page.wait_for_timeout(500)
    viewer.wheel(1)
    viewer.button("Reset view").click()
    assert_same(viewer.picture(), before)


@pytest.mark.browser
def test_in_chinese(viewer_server: ComfyServer, webgl_browser: Any) -> None:
    page = open_page(webgl_browser, viewer_server, "canvas", "zh")
    run_graph(page, [viewer_server.put_array("maps", MAPS)])
    viewer = ViewerPage(page)
    page.kind = "canvas"
    text = viewer.panel.inner_text()
    assert all(
        label in text for label in ("环视", "经纬展开图", "伪色", "参考球", "曝光", "主光来自主体背后")
    )
    shoot(viewer, viewer_server, "chinese")
    page.close()


def viewer_graph(server: ComfyServer, env: np.ndarray) -> dict[str, Any]:
    return {
        "env": graphs.node("TestTensor", file=server.put_array("env", env)),
        "viewer": graphs.node("DelitPreviewEnvMap", env=["env", 0]),
        "passed": graphs.node("TestDump", file="passed.npy", image=["viewer", 0]),
    }


def test_what_the_node_gives(viewer_server: ComfyServer) -> None:
    run = viewer_server.run(viewer_graph(viewer_server, MAPS))
    assert run.error is None
    np.testing.assert_array_equal(viewer_server.dumped("passed.npy"), MAPS)
    shown = run.outputs["viewer"]
    assert len(shown["delit_env_maps"]) == len(MAPS)
    for notes, env in zip(shown["delit_env_maps"], MAPS, strict=True):
        assert notes["type"] == "temp"
        place = f"/view?filename={notes['filename']}&subfolder={notes['subfolder']}&type=temp"
        pixels = np.frombuffer(viewer_server.get_bytes(place), "<f2").reshape(
            notes["height"], notes["width"], 3
        )
        np.testing.assert_array_equal(pixels, env.astype(np.float16))
    assert not list(viewer_server.output.glob("delit_env*"))
    if viewer_server.checkout.version == "0.8.0":
        assert "images" not in shown, "its front end shows a broken picture for an EXR"
    else:
        files = [viewer_server.base / "temp" / image["filename"] for image in shown["images"]]
        for file, env in zip(files, MAPS, strict=True):
            np.testing.assert_array_equal(read_env_map(file).radiance.numpy(), env.astype(np.float16))


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (np.full((1, 64, 64, 3), 1, np.float32), "twice as wide"),
        (np.full((1, 32, 64, 3), np.nan, np.float32), "NaN"),
        (np.full((1, 32, 64, 3), -1, np.float32), "negative"),
    ],
)
def test_what_is_no_map(viewer_server: ComfyServer, env: np.ndarray, said: str) -> None:
    refused(viewer_server, viewer_graph(viewer_server, env), "DelitPreviewEnvMap", said)


@pytest.mark.browser
def test_core_opens_what_was_shown_and_saved(viewer_server: ComfyServer, webgl_browser: Any) -> None:
    """Core's HDR viewer, where there is one, lists the EXR of both nodes."""
    if viewer_server.checkout.version == "0.8.0":
        pytest.skip("no HDR viewer in this front end")
    page = open_page(webgl_browser, viewer_server, "vue")
    run_graph(page, [viewer_server.put_array("maps", MAPS[:1])])
    page.get_by_test_id("hdr-open-button").click()
    page.get_by_test_id("hdr-viewer-canvas").locator("canvas").wait_for(timeout=30_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=ARTIFACTS / f"viewer-core-hdr-comfyui-{viewer_server.checkout.version}.png")
    assert page.get_by_role("alert").count() == 0, "core cannot read the EXR"
    page.close()
    run = viewer_server.run(graphs.save_env(viewer_server, MAPS[:1], "hdr/env"))
    assert run.outputs["save"]["images"][-1] == {
        "filename": "env.0001.exr",
        "subfolder": "hdr",
        "type": "output",
    }
