"""The page about a run as a browser shows it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}


def until(page: "Page", condition: str) -> None:
    """Wait; playwright's own way to do so is an eval, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def opened(page: "Page", path: Path, width: str = "desktop") -> "Page":
    across, down = WIDTHS[width]
    page.set_viewport_size({"width": across, "height": down})
    page.goto(path.as_uri())
    until(page, "document.querySelectorAll('.plot .main-svg').length > 0")
    return page


def test_every_plot_is_drawn(page: "Page", reported: Path) -> None:
    opened(page, reported)
    assert page.locator(".chart").count() == 9
    for chart in page.locator(".chart").all():
        assert chart.locator(".trace, .hm image, image").count() > 0, chart.get_attribute("id")


@pytest.mark.sample(1)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits(page: "Page", reported: Path, width: str, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    opened(page, reported, width)
    across = WIDTHS[width][0]
    assert page.evaluate("document.documentElement.scrollWidth") == across
    beyond = page.evaluate(
        "across => [...document.querySelectorAll('main *, header *')].filter(e => !e.closest('svg, .skip, thead'))"
        ".filter(e => e.getBoundingClientRect().right > across + 0.5).map(e => e.outerHTML.slice(0, 80))",
        across,
    )
    assert beyond == []
    ink = page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
    assert (min(map(int, ink[4:-1].split(","))) > 128) == (scheme == "dark")


@pytest.mark.slow
def test_plots_follow_a_change_to_dark(page: "Page", reported: Path) -> None:
    page.emulate_media(color_scheme="light")
    opened(page, reported)
    line = "document.querySelector('#losses .js-line').style.stroke"
    before = page.evaluate(line)
    page.emulate_media(color_scheme="dark")
    until(page, f"{line} !== '{before}'")


def test_the_keyboard_reaches_every_control(page: "Page", reported: Path) -> None:
    opened(page, reported)
    controls = "a[href], button, input, summary, .plot"
    wanted = page.locator(controls).count()
    assert wanted > 40
    page.evaluate("window.seen = new Set()")
    for _ in range(wanted + 2):
        page.keyboard.press("Tab")
        page.evaluate("seen.add(document.activeElement)")
    missed = (
        f"[...document.querySelectorAll('{controls}')].filter(e => !seen.has(e)).map(e => e.outerHTML.slice(0, 80))"
    )
    assert page.evaluate(missed) == []


@pytest.mark.slow
def test_keys_switch_lines_and_zoom(page: "Page", reported: Path) -> None:
    opened(page, reported)
    key = page.locator("#losses .key").nth(2)
    key.focus()
    page.keyboard.press("Enter")
    assert key.get_attribute("aria-pressed") == "false"
    assert page.evaluate("document.getElementById('losses-plot').data[2].visible") is False
    span = "(([a, b]) => b - a)(document.getElementById('losses-plot')._fullLayout.xaxis.range)"
    whole = page.evaluate(span)
    page.locator("#losses-plot").focus()
    page.keyboard.press("+")
    assert page.evaluate(span) == pytest.approx(whole / 2)
    page.locator("#losses [data-zoom=whole]").click()
    assert page.evaluate(span) == pytest.approx(whole)


@pytest.mark.slow
def test_the_pointer_is_told_values(page: "Page", reported: Path) -> None:
    opened(page, reported)
    page.locator("#losses-plot").scroll_into_view_if_needed()
    page.locator("#losses-plot .nsewdrag").first.hover()
    page.wait_for_selector("#losses-plot .hoverlayer text")
    assert "nats per token" in str(page.locator("#losses-plot .hoverlayer").text_content())


@pytest.mark.slow
def test_the_player_goes_through_the_losses(page: "Page", reported: Path) -> None:
    opened(page, reported)
    shown = "document.getElementById('credit-row-plot').data[0].y.filter(v => v !== null).length"
    last = page.evaluate(shown)
    slider = page.locator(".player input")
    slider.focus()
    page.keyboard.press("Home")
    assert page.evaluate(shown) == 1
    for name, axis in (("credit", "y"), ("credit-row", "x")):
        assert page.evaluate(f"document.getElementById('{name}-plot').layout.shapes[0].{axis}0") == 0
    assert str(page.locator(".player output").text_content()).startswith("t = 0:")
    page.locator(".play").click()
    until(page, "Number(document.querySelector('.player input').value) >= 3")
    page.locator(".play").click()
    assert page.locator(".play").text_content() == "Play"
    assert 1 < page.evaluate(shown) < last


@pytest.mark.slow
def test_paper_is_light(page: "Page", reported: Path) -> None:
    page.emulate_media(color_scheme="dark")
    opened(page, reported)
    page.locator("#losses .key").nth(2).click()
    ground = "getComputedStyle(document.body).backgroundColor"
    line = "document.querySelector('#losses .js-line').style.stroke"
    hidden = "document.getElementById('losses-plot').data[2].visible === false"
    on_screen = page.evaluate(f"[{ground}, {line}]")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    dark, light = on_screen, page.evaluate(f"[{ground}, {line}]")
    assert min(map(int, light[0][4:-1].split(","))) > 200
    assert sum(map(int, light[1][4:-1].split(","))) < sum(map(int, dark[1][4:-1].split(",")))
    assert page.is_visible(".player .controls p")
    assert not page.is_visible(".play")
    page.emulate_media(media="screen", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(f"[{ground}, {line}]") == on_screen
    assert page.evaluate(hidden)
