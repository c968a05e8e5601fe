"""A lesson as a page: one file that loads nothing."""

import html
import json
import re
from importlib import resources

from elman.io.files import MAKER
from elman.report.explain.lesson import Lesson, as_json

SCRIPTS = ("network.js", "notation.js", "drawing.js", "panels.js", "sections.js", "page.js")


def write(lesson: Lesson, losses: list[float], command: str) -> str:
    """The page as HTML.

    Args:
        lesson: what it is about.
        losses: of the training in Python, for the page to compare its own with.
        command: that made it, for its last line.
    """
    numbers = json.dumps(as_json(lesson, losses), allow_nan=False)
    parts = {
        "style": _template("page.css"),
        "script": "\n".join(_template(name) for name in SCRIPTS),
        "lesson": numbers.replace("<", "\\u003c"),  # or a word could end the script
        "sentence": html.escape(" ".join(lesson.words)),
        "vocabulary": str(len(lesson.vocabulary)),
        "T": str(len(lesson.words) - 1),
        "drawing": str(76 + 104 * (len(lesson.words) - 1)),  # pixels, at ease; it can do with less
        "hidden": str(lesson.hidden),
        "units": "s" if lesson.hidden > 1 else "",
        "activation": lesson.activation,
        "steps": str(lesson.steps),
        "maker": MAKER,
        "command": html.escape(command),
    }
    # In one pass: what is put in is not looked through again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _template("page.html"))


def _template(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")
