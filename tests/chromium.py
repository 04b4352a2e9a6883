"""Headless Chromium, for the tests that need a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class _SharedPlaywright:
    """Started for the first browser and stopped with the last: while one is there, Playwright starts no second one."""

    def __init__(self) -> None:
        self.started, self.browsers = None, 0

    @contextmanager
    def browser(self, **options: Any) -> Iterator[Any]:
        if self.browsers == 0:
            self.started = pytest.importorskip("playwright.sync_api").sync_playwright().start()
        self.browsers += 1
        try:
            browser = self.started.chromium.launch(**options)
            yield browser
            browser.close()
        finally:
            self.browsers -= 1
            if self.browsers == 0:
                self.started.stop()


_playwright = _SharedPlaywright()


@contextmanager
def chromium(arguments: Sequence[str] = PLAIN) -> Iterator[Any]:
    """A browser of Playwright's; without Chromium or Playwright the test is skipped, saying what to do."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium found: install it (Debian: apt-get install chromium)")
    with _playwright.browser(executable_path=path, args=list(arguments)) as browser:
        yield browser
