"""A real browser: the system's Chromium, driven by playwright. Where either is missing, tests are skipped, loudly."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")  # an idle browser takes a twentieth of a core
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED IN A BROWSER: playwright is missing; pip install playwright"
    )
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"NOT TESTED IN A BROWSER: none of {', '.join(NAMES)} is on the PATH; install Chromium")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"] if root else [])
        yield browser
        browser.close()


def _failed(request: Any) -> bool:
    """True unless the request was aborted because the next page was opened."""
    return bool(request.failure != "net::ERR_ABORTED")


@pytest.fixture
def page(browser: Any) -> "Iterator[Page]":
    """A fresh page; the test fails if anything on it complains."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "requestfailed", lambda request: complaints.append(f"not found: {request.url}") if _failed(request) else None
    )
    yield page
    context.close()
    assert complaints == []
