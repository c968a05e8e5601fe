"""The page of `elman explain` in a real browser: the numbers that JavaScript computes are those of elman.textbook."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from elman import textbook
from elman.report.explain import page as template
from elman.report.explain.lesson import Lesson, train
from elman.textbook import ACTIVATIONS, Array, Parameters
from tests import tolerances

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOME = Lesson(("please", "stay", "at", "home"))
LONG = Lesson(("the", "cat", "sat", "on", "the", "mat", "because", "the", "old", "dog", "was", "away"), hidden=8)


def name(lesson: Lesson) -> str:
    return f"{len(lesson.words)} words, {lesson.activation}"


def close(actual: Any, expected: Array) -> None:
    tolerances.close(torch.as_tensor(np.asarray(actual, float)), torch.as_tensor(expected), "gradients")


def opened(page: "Page", folder: Path, lesson: Lesson = HOME) -> "Page":
    path = folder / "page.html"
    path.write_text(template.write(lesson, train(lesson).losses, "elman explain"), encoding="utf-8")
    page.goto(path.as_uri())
    return page


def press(page: "Page", control: str, *keys: str) -> None:
    """Press keys on a control, and wait until the page has been written anew."""
    page.focus(f"#{control}")
    for key in keys:
        page.keyboard.press(key)
    settle(page)


def settle(page: "Page") -> None:
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text.replace("\N{MINUS SIGN}", "-"))]


def in_python(lesson: Lesson, rate: float, steps: int) -> Parameters:
    return train(lesson._replace(learning_rate=rate, steps=steps)).p


def agrees(page: "Page", lesson: Lesson) -> None:
    """All that the page computed, with what elman.textbook gets from the same start."""
    found = page.evaluate("({ ...window.elman, path: null })")  # of many steps, and not asked for here
    p = in_python(lesson, found["rate"], found["step"])
    h, y = textbook.forward(p, lesson.x, lesson.activation)
    gradient = textbook.bptt_as_sum(p, lesson.x, lesson.targets, lesson.activation)
    for name, w in p._asdict().items():
        close(found["p"][name], w)
        close(found["gradient"][name], getattr(gradient, name))
    close(found["run"]["h"], h)
    close(found["run"]["y"], y)
    close(found["run"]["o"], h @ p.V.T + p.c)
    before = np.vstack([np.zeros_like(p.b), h[:-1]])
    close(found["run"]["a"], lesson.x @ p.U.T + before @ p.W.T + p.b)
    close(found["loss"], np.array(textbook.cross_entropy(y, lesson.targets)))
    close(sum(found["losses"]), np.array(found["loss"]))
    for row, expected in zip(found["found"], lesson.terms(p), strict=True):
        for term, da in zip(row, expected, strict=False):
            close(term["da"], da)


@pytest.mark.parametrize("lesson", [HOME._replace(activation=g) for g in ACTIVATIONS] + [LONG], ids=name)
def test_every_number_is_that_of_the_textbook(page: "Page", tmp_path: Path, lesson: Lesson) -> None:
    opened(page, tmp_path, lesson)
    assert page.evaluate("window.elman.apart") < 1e-9
    agrees(page, lesson)
    for control, keys in (("step", ["ArrowRight"]), ("rate", ["PageDown"]), ("step", ["End"])):
        press(page, control, *keys)
        agrees(page, lesson)
    assert page.evaluate("window.elman.step") == lesson.steps


def test_both_sliders_change_what_is_seen(page: "Page", tmp_path: Path) -> None:
    opened(page, tmp_path)
    seen = {page.inner_text("main")}
    for control, keys in (("step", ["End"]), ("rate", ["End"]), ("rate", ["Home"])):
        press(page, control, *keys)
        text = page.inner_text("main")
        assert text not in seen
        seen.add(text)
        now = page.evaluate("window.elman")
        assert page.inner_text("#loss-value") == f"{now['loss']:.3f}"
        assert numbers(page.inner_text("#rate-value")) == [pytest.approx(now["rate"], abs=5e-4)]
        assert page.inner_text("#step-value") == str(now["step"]) == "100"
        assert f"{now['loss']:.3f}" in str(page.get_attribute("#curve svg", "aria-label"))
    assert page.evaluate("window.elman.rate") == pytest.approx(0.05)


def test_back_to_the_untrained_network(page: "Page", tmp_path: Path) -> None:
    opened(page, tmp_path)
    before = page.inner_text("main")
    page.click("#trained")
    assert "after 100 training steps" in page.inner_text("main")
    assert page.inner_text("#predictions").count("right\n") + page.inner_text("#predictions").count("right\t") >= 3
    page.click("#untrained")
    assert page.inner_text("main") == before


def test_the_walk_shows_every_number_of_the_way_forward(page: "Page", tmp_path: Path) -> None:
    opened(page, tmp_path)
    run = page.evaluate("window.elman.run")
    for t in range(3):
        assert f"forward, t = {t + 1}" in page.inner_text("#place")
        panel = numbers(page.inner_text("#panel"))
        for row in "ahoy":
            for value in run[row][t]:
                assert round(value, 3) in panel
                assert page.locator("#drawing .value", has_text=f"{abs(value):.3f}").count() >= 1
        page.click("#next")
    assert "backward" in page.inner_text("#place")


def test_the_terms_that_are_shown_add_up_to_the_gradient(page: "Page", tmp_path: Path) -> None:
    opened(page, tmp_path)
    gradient = HOME.gradient(HOME.start())
    sums = {"W": np.zeros((4, 4)), "U": np.zeros((4, 4)), "b": np.zeros((4, 1))}
    pairs = []
    press(page, "walk", *["ArrowRight"] * 2)
    for _ in range(6):
        page.click("#next")
        pairs.append(page.inner_text("#place").split(": ")[1])
        shown = page.locator("#panel .matrices tbody")
        for index, name in enumerate(sums):
            cells = numbers(shown.nth(index).inner_text())
            sums[name] += np.reshape(cells, sums[name].shape)
    assert pairs == [f"backward, t = {t}, k = {k}" for t in (3, 2, 1) for k in range(t, 0, -1)]
    for name, total in sums.items():
        expected = getattr(gradient, name).reshape(total.shape)
        assert np.abs(total - expected).max() < 6 * 0.5e-4  # of six numbers, each rounded to four decimals


@pytest.mark.parametrize("name", Parameters._fields)
def test_the_sum_written_out_is_the_gradient(page: "Page", tmp_path: Path, name: str) -> None:
    opened(page, tmp_path)
    page.check(f"input[value={name}]")
    expected = getattr(HOME.gradient(HOME.start()), name)

    def matrices(of: str) -> list[Array]:
        return [np.reshape(numbers(cells), expected.shape) for cells in page.locator(f"{of} tbody").all_inner_texts()]

    total, *steps = matrices("#sum .total")
    assert np.abs(total - expected).max() <= 0.5001e-4  # shown with four decimals
    assert np.abs(sum(steps) - expected).max() < 3 * 0.5001e-4
    for t, step in enumerate(steps):
        left, *terms = matrices(f"#sum .line:nth-child({t + 1})")
        assert np.array_equal(left, step)
        assert len(terms) == (t + 1 if name in "UWb" else 1)
        assert np.abs(sum(terms) - left).max() < (t + 2) * 0.5001e-4


def test_the_arrows_back_are_as_wide_as_what_is_left(page: "Page", tmp_path: Path) -> None:
    opened(page, tmp_path)
    press(page, "walk", *["ArrowRight"] * 5)  # t = 3, k = 1
    widths = page.evaluate(
        "[...document.querySelectorAll('.arrow.back .shaft')].map((path) => parseFloat(path.style.strokeWidth))"
    )
    lengths = [float(np.linalg.norm(step["dh"])) for step in page.evaluate("window.elman.found[2]")]
    h_1, h_2, h_3 = (9 * length / max(lengths) for length in lengths)
    # Column by column: a to h; in later ones the way over to the column before; in the last one, V and the loss too.
    assert widths == pytest.approx([h_1, h_2, h_1, h_3, h_3, 1.5, 1.5, h_2], abs=0.006)
    left = numbers(page.locator("#fading .numbers").first.inner_text())
    assert all(round(length, 4) in left for length in lengths)


def test_the_keyboard_reaches_every_control(page: "Page", tmp_path: Path) -> None:
    opened(page, tmp_path)
    press(page, "walk", "ArrowRight")
    page.evaluate("document.activeElement.blur(); window.reached = new Set()")
    for _ in range(60):
        page.keyboard.press("Tab")
        page.evaluate("window.reached.add(document.activeElement)")
    missed = page.evaluate("""
        [...document.querySelectorAll("button, input, summary, a[href], [tabindex]")]
            .filter((control) => control.type !== "radio" || control.checked)
            .filter((control) => !window.reached.has(control)).map((control) => control.outerHTML)
    """)
    assert missed == []
    page.focus("input[value=W]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.value") == "U"
    page.focus("#next")
    page.keyboard.press("Enter")
    assert page.inner_text("#place").startswith("3 / 9")
    unnamed = page.evaluate("""
        [...document.querySelectorAll("input")].filter((input) => !input.labels.length && !input.ariaLabel).length
    """)
    assert unnamed == 0


@pytest.mark.parametrize(
    "lesson", [HOME, LONG._replace(words=("Donaudampfschifffahrt" * 4, *LONG.words[1:]))], ids=name
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
    assert "explodes" in page.inner_text("#exploded")
    page.click("#trained")
    assert page.inner_text("#loss-value") in ("NaN", "∞")
    assert "not a number" in page.inner_text("#fading-in-words")


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
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.inner_text("#panel").count("Forward, step") == 3
    assert page.is_visible("#weights")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.inner_text("#panel").count("Forward, step") == 1
