"""The page of `elman explain` where something is out of the ordinary: long words, explosions, paper, small screens."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from elman.report.explain.lesson import Lesson
from tests.browser.explained import HOME, LONG, named, numbers, opened, press, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "lesson", [HOME, LONG._replace(words=("Donaudampfschifffahrt" * 4, *LONG.words[1:]))], ids=named
)
def test_nothing_is_wider_than_the_window(page: "Page", tmp_path: Path, lesson: Lesson) -> None:
    opened(page, tmp_path, lesson)
    for width in (320, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        for key in ("Home", "End"):
            press(page, "walk", key)
            assert page.evaluate("document.documentElement.scrollWidth") == width
        page.click("summary")  # the weights, and then without them


def test_an_explosion_is_told(page: "Page", tmp_path: Path) -> None:
    opened(page, tmp_path, HOME._replace(activation="relu", learning_rate=1e6))
    assert "training diverges: after 1 step the loss is" in page.inner_text("#exploded")
    page.click("#trained")
    assert page.inner_text("#loss-value") == "\N{INFINITY}"
    assert "NaN" not in page.inner_text("main")  # the gradient of an infinite loss is one


@pytest.mark.slow
def test_a_loss_that_comes_back_is_no_explosion(page: "Page", tmp_path: Path) -> None:
    opened(page, tmp_path, HOME._replace(learning_rate=1000))
    page.click("#trained")
    told = page.inner_text("#exploded")
    assert "after 3 steps the loss is infinite" in told
    assert "After 4 steps it is finite again" in told
    assert "diverges" not in told
    assert page.inner_text("#loss-value") == "0"
    left = page.locator("#fading td:last-child").all_inner_texts()
    assert left == ["\N{EN DASH}"] * 6
    assert "gradient of the loss is zero" in page.inner_text("#fading-in-words")


@pytest.mark.slow
def test_the_largest_learning_rate(page: "Page", tmp_path: Path) -> None:
    opened(page, tmp_path, Lesson(("a", "b", "c"), learning_rate=1e308))
    page.click("#trained")
    assert "after 100 training steps" in page.inner_text("#of-training")
    assert "after 2 steps it is NaN" in page.inner_text("#exploded")
    assert page.inner_text("#loss-value") == "NaN"
    assert "The loss is NaN" in page.inner_text("#fading-in-words")
    assert page.inner_text("#predictions").count("none wrong") == 2
    press(page, "walk", *["ArrowRight"] * 4)


LONG_WORDS = Lesson(
    ("Donaudampfschifffahrtsgesellschaftskapitänsmütze", "WWWWWWWWWWWWWWW", "x" * 30, "日本語日本語日本語")
)


@pytest.mark.sample(1)
@pytest.mark.parametrize("width", [390, 1280])
def test_long_words_stay_in_their_places(page: "Page", tmp_path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    opened(page, tmp_path, LONG_WORDS)
    beyond = page.evaluate("""
        [...document.querySelectorAll("#drawing text.unit")].filter((text) => text.getBBox().x < 0)
            .map((text) => text.textContent)
    """)
    assert beyond == []
    over = page.evaluate("""
        [...document.querySelectorAll("#drawing .box")].filter((box) => {
            const [frame, word] = [box.querySelector(".frame"), box.querySelector(".word")];
            return word && word.getBBox().width > frame.getBBox().width - 4;
        }).map((box) => box.textContent)
    """)
    assert over == []
    for table in (".outputs", "#predictions table"):
        assert page.evaluate("of => document.querySelector(of).parentElement.scrollWidth", table) <= width - 32
    assert LONG_WORDS.words[0] in page.inner_text("#predictions").replace("\n", "")


@pytest.mark.slow
def test_what_goes_on_beyond_the_edge_is_seen_to(page: "Page", tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, tmp_path, LONG)
    page.click("#sum [data-fold=sum-1] summary")
    settle(page)
    state = "box => [box.classList.contains('more'), box.scrollWidth > box.clientWidth + 1]"
    boxes = page.locator("#drawing, .wide, .named, .formula").all()
    found = [page.evaluate(state, box.element_handle()) for box in boxes]
    assert all(more == wider for more, wider in found)
    assert any(more for more, _ in found)
    page.evaluate("document.getElementById('drawing').scrollLeft = 1e6")
    settle(page)
    assert not page.evaluate("document.getElementById('drawing').classList.contains('more')")


def test_parts_are_folded_where_there_is_much(page: "Page", tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, tmp_path, LONG)
    assert page.evaluate("document.documentElement.scrollHeight") < 9000
    fold = page.locator("#sum [data-fold=sum-10]")
    assert fold.locator(".matrix").count() == 0
    fold.locator("summary").click()
    settle(page)
    assert fold.locator(".matrix").count() == 12
    page.click("#trained")
    settle(page)
    assert fold.locator(".matrix").count() == 12  # what was opened stays open
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#sum .matrix").count() == 12 + sum(t + 2 for t in range(11))
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    settle(page)
    assert page.locator("#sum details[open]").count() == 1


def test_a_letter_of_several_signs_is_not_cut_up(page: "Page", tmp_path: Path) -> None:
    family = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
    opened(page, tmp_path, Lesson((family * 9, "home", "stay")))
    cut = page.locator("#drawing text.word").all_text_contents()
    (shown,) = [text for text in cut if family in text]
    assert shown.replace(family, "") == "…"


def test_words_are_never_taken_for_markup(page: "Page", tmp_path: Path) -> None:
    words = ("<img/src=x>", "</script>", "<b>&amp;", "{{style}}")
    opened(page, tmp_path, Lesson(words))
    assert page.inner_text("h1") == f"“{' '.join(words)}”"
    press(page, "walk", "ArrowRight", "ArrowRight", "ArrowRight")
    assert page.locator("img, #panel b:has-text('&')").count() == 0
    assert "<b>&amp;" in page.inner_text("#sentence")


def test_the_page_asks_for_nothing(page: "Page", tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, tmp_path)
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "page.html").as_uri()]


@pytest.mark.slow
def test_dark_and_paper(page: "Page", tmp_path: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    opened(page, tmp_path)
    assert min(numbers(page.evaluate(ground))) > 200
    page.emulate_media(color_scheme="dark")
    assert max(numbers(page.evaluate(ground))) < 60
    page.emulate_media(media="print")
    assert min(numbers(page.evaluate(ground))) == 255
    assert not page.is_visible(".controls")
    assert page.is_visible("#drawing")
    assert "slider" not in page.inner_text("main")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.inner_text("#panel").count("Forward, step") == 3
    assert page.is_visible("#weights")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.inner_text("#panel").count("Forward, step") == 1
