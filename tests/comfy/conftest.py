"""ComfyUI servers for every version found, and a browser, started once a session; the tests run in each version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE
from tests.chromium import chromium
from tests.comfy.clips import put_workflow_clip
from tests.comfy.comfyui import HOW_TO_PROVIDE, Checkout, ComfyServer, find_checkouts
from tests.comfy.front_ends import own_front_end
from tests.comfy.pages import open_front_end
from tests.comfy.workflow_inputs import put_workflow_inputs

CHECKOUTS = find_checkouts()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for a checkout runs in all of them; with none it is skipped, saying what to do."""
    if "checkout" in metafunc.fixturenames:
        skipped = [pytest.param(None, marks=pytest.mark.skip(reason=HOW_TO_PROVIDE), id="no ComfyUI")]
        found = [pytest.param(checkout, id=checkout.version) for checkout in CHECKOUTS]
        metafunc.parametrize("checkout", found or skipped, scope="session")


def usual_install(checkout: Checkout) -> str:
    """The newest ComfyUI gets the pack as a copy, older ones as a symbolic link."""
    return "copy" if checkout == CHECKOUTS[-1] else "symlink"


def other_install(checkout: Checkout) -> str:
    return "symlink" if usual_install(checkout) == "copy" else "copy"


@pytest.fixture(scope="session")
def running_server(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    if not (EMBEDDED_VAE.exists() and EMBEDDED_HEADS.exists()):
        pytest.skip("the embedded weights are not in delit_models/weights")
    base = tmp_path_factory.mktemp(f"comfyui-{checkout.version}")
    with ComfyServer(checkout, base, usual_install(checkout)) as running:
        put_workflow_inputs(running.input)
        put_workflow_clip(running.input)
        yield running


@pytest.fixture
def server(running_server: ComfyServer) -> Iterator[ComfyServer]:
    """The session's server; what it logged during a test is shown if that fails."""
    start = len(running_server.log)
    yield running_server
    print(f"\nLog of ComfyUI {running_server.checkout.version}:\n{running_server.log[start:]}")


@pytest.fixture(scope="session")
def other_server(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A second server: the pack installed the other way, the front end that this ComfyUI came with. Nobody has opened
    its page before test_first_graph.py does."""
    base = tmp_path_factory.mktemp(f"other-{checkout.version}")
    packages = own_front_end(checkout)
    with ComfyServer(checkout, base, other_install(checkout), packages=packages) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium; whoever opens a page in it closes that page."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page(running_server: ComfyServer, browser: Any) -> Iterator[Any]:
    """A page of the session's server, which the tests of a module share: each opens a graph of its own."""
    page = open_front_end(browser, running_server)
    yield page
    page.close()
