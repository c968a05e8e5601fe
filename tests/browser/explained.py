"""What the tests of the page of `elman explain` in a browser have in common."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from elman.report.explain import page as template
from elman.report.explain.lesson import Lesson, train

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOME = Lesson(("please", "stay", "at", "home"))
LONG = Lesson(("the", "cat", "sat", "on", "the", "mat", "because", "the", "old", "dog", "was", "away"), hidden=8)


def named(lesson: Lesson) -> str:
    return f"{len(lesson.words)} words, {lesson.activation}"


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


def half(value: float) -> float:
    """Of the last of three digits: how far what is shown may be away."""
    return 0.501 * 10.0 ** (math.floor(math.log10(abs(value))) - 2) if value else 0.0


def told(value: float, shown: list[float]) -> bool:
    """Whether a number is among those shown."""
    return any(abs(found - value) <= half(value) for found in shown)
