"""Headless Chromium, for the tests that need a browser."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

PLAIN = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")
# WebGL without a graphics card.
SOFTWARE_WEBGL = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


@contextmanager
def chromium(arguments: Sequence[str] = PLAIN) -> Iterator[Any]:
    """A browser of Playwright's; without Chromium or Playwright the test is skipped, saying what to do."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium found: install it (Debian: apt-get install chromium)")
    browser = _playwright().chromium.launch(executable_path=path, args=list(arguments))
    yield browser
    browser.close()


@cache
def _playwright() -> Any:
    """Started once a process: while one is there, Playwright starts no second one."""
    started = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    atexit.register(started.stop)
    return started
