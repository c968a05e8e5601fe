"""The page of `elman explain` in a real browser: the numbers that JavaScript computes are those of elman.textbook."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from elman import textbook
from elman.report.explain.lesson import Lesson, train
from elman.textbook import ACTIVATIONS, Array, Parameters
from tests import tolerances
from tests.browser.explained import HOME, LONG, half, named, numbers, opened, press, told

if TYPE_CHECKING:
    from playwright.sync_api import Page


def close(actual: Any, expected: Array) -> None:
    tolerances.close(torch.as_tensor(np.asarray(actual, float)), torch.as_tensor(expected), "gradients")


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


@pytest.mark.sample(1)
@pytest.mark.parametrize("lesson", [HOME._replace(activation=g) for g in ACTIVATIONS] + [LONG], ids=named)
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
        assert told(now["loss"], numbers(page.inner_text("#loss-value")))
        assert told(now["rate"], numbers(page.inner_text("#rate-value")))
        assert page.inner_text("#step-value") == str(now["step"]) == "100"
        assert f"{page.inner_text('#loss-value')} at the end" in str(page.get_attribute("#curve svg", "aria-label"))
    assert page.evaluate("window.elman.rate") == pytest.approx(0.05)


@pytest.mark.slow
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
        drawn = numbers(" ".join(page.locator("#drawing .value").all_text_contents()))
        for row in "ahoy":
            for value in run[row][t]:
                assert told(value, panel)
                assert told(value, drawn)
        page.click("#next")
    assert "backward" in page.inner_text("#place")


# Of every number that is added, three digits are shown: by so much may a sum be away.
digits = np.vectorize(half)
halfway = pytest.mark.parametrize("steps", [0, 100], ids=["untrained", "trained"])


@halfway
@pytest.mark.sample(1)
def test_the_terms_that_are_shown_add_up_to_the_gradient(page: "Page", tmp_path: Path, steps: int) -> None:
    opened(page, tmp_path)
    press(page, "step", "End" if steps else "Home")
    gradient = HOME.gradient(in_python(HOME, 0.5, steps))
    sums = {"W": np.zeros((4, 4)), "U": np.zeros((4, 4)), "b": np.zeros((4, 1))}
    away = {name: np.zeros_like(total) for name, total in sums.items()}
    pairs = []
    press(page, "walk", *["ArrowRight"] * 2)
    for _ in range(6):
        page.click("#next")
        pairs.append(page.inner_text("#place").split(": ")[1])
        shown = page.locator("#panel .matrices tbody")
        for index, name in enumerate(sums):
            cells = np.reshape(numbers(shown.nth(index).inner_text()), sums[name].shape)
            sums[name] += cells
            away[name] += digits(cells)
    assert pairs == [f"backward, t = {t}, k = {k}" for t in (3, 2, 1) for k in range(t, 0, -1)]
    for name, total in sums.items():
        expected = getattr(gradient, name).reshape(total.shape)
        assert (np.abs(total - expected) <= away[name]).all()
        assert (away[name] <= 0.03 * np.abs(expected).max()).all()


@halfway
@pytest.mark.sample(2)
@pytest.mark.parametrize("name", Parameters._fields)
def test_the_sum_written_out_is_the_gradient(page: "Page", tmp_path: Path, name: str, steps: int) -> None:
    opened(page, tmp_path)
    press(page, "step", "End" if steps else "Home")
    page.check(f"input[value={name}]")
    expected = getattr(HOME.gradient(in_python(HOME, 0.5, steps)), name)

    def matrices(of: str) -> list[Array]:
        return [np.reshape(numbers(cells), expected.shape) for cells in page.locator(f"{of} tbody").all_inner_texts()]

    total, *parts = matrices("#sum .total")
    assert (np.abs(total - expected) <= digits(total)).all()
    assert (np.abs(sum(parts) - expected) <= sum(map(digits, parts))).all()
    for t, part in enumerate(parts):
        left, *terms = matrices(f"#sum [data-fold=sum-{t}] .line")
        assert np.array_equal(left, part)
        assert len(terms) == (t + 1 if name in "UWb" else 1)
        assert (np.abs(sum(terms) - left) <= sum(map(digits, [left, *terms]))).all()


@pytest.mark.slow
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
    assert all(told(length, left) for length in lengths)


@pytest.mark.slow
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
