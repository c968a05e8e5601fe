"""The docs site, built and opened from disk in a browser, without network."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from elman.tasks.registry import TASKS
from tests.browser.test_report import WIDTHS

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]


def _build(config: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Build a site as `make docs` does."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("the docs site is not tested: mkdocs is missing; pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    built = _build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize("link", ["missing.md", "index.md#missing"])
def test_a_broken_link_is_an_error(link: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n[a link]({link})\n", encoding="utf-8")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\nnav:\n  - index.md\nhooks: []\nplugins: []\n", encoding="utf-8")
    built = _build(config, tmp_path / "site")
    assert built.returncode == 1
    assert f"contains a link '{link}'" in built.stderr


@pytest.fixture
def requests(page: "Page") -> list[str]:
    """The addresses that the page asks for."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    return urls


def test_every_page_fits_a_phone_and_asks_for_nothing_from_the_network(
    site: Path, page: "Page", requests: list[str]
) -> None:
    across, down = WIDTHS["phone"]
    page.set_viewport_size({"width": across, "height": down})
    for path in set(site.rglob("*.html")) - {site / "404.html"}:  # which only servers use
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == across, path
    assert {url.partition(":")[0] for url in requests} <= {"file", "data", "blob"}


def test_the_search_finds_a_class(site: Path, page: "Page") -> None:
    page.goto((site / "index.html").as_uri())
    page.locator("input.md-search__input").fill("Checkpointed")
    result = page.locator(".md-search-result__link").first
    result.wait_for()
    assert re.search(r"Checkpointed|Gradient modes", result.inner_text())


@pytest.mark.parametrize(("scheme", "other"), [("light", "dark"), ("dark", "light")])
def test_it_follows_the_scheme_of_the_system_and_its_switch(site: Path, page: "Page", scheme: Any, other: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme=scheme)
    page.goto((site / "index.html").as_uri())
    assert _is_dark(page.evaluate(background)) == (scheme == "dark")
    page.locator(f"label[title='Switch to {other} mode']").click()
    assert _is_dark(page.evaluate(background)) == (other == "dark")


def _is_dark(colour: str) -> bool:
    return max(map(int, re.findall(r"\d+", colour)[:3])) < 128


@pytest.mark.parametrize("task", TASKS)
def test_the_page_of_a_task_has_its_options(site: Path, task: str) -> None:
    html = (site / "tasks" / f"{task}.html").read_text(encoding="utf-8")
    assert "<code>--hidden N</code>" in html
    if task == "translate":
        assert "ein hund\ta dog" in html  # tabs stay, so that examples can be copied
    assert f'id="elman.tasks.{task}.fit"' in (site / "reference" / "tasks.html").read_text(encoding="utf-8")
