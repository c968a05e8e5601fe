"""A lesson as a page: one file that loads nothing."""

from elman.io.files import MAKER
from elman.report.explain.lesson import Lesson, as_json
from elman.report.templates import environment, text_of

SCRIPTS = ("network.js", "notation.js", "drawing.js", "panels.js", "sections.js", "page.js")


def write(lesson: Lesson, losses: list[float], command: str) -> str:
    """The page as HTML.

    Args:
        lesson: what it is about.
        losses: of the training in Python, for the page to compare its own with.
        command: that made it, for its last line.
    """
    return (
        environment(__package__)
        .get_template("page.html")
        .render(
            style=text_of(__package__, "page.css"),
            script="\n".join(text_of(__package__, name) for name in SCRIPTS),
            lesson=lesson,
            numbers=as_json(lesson, losses),
            maker=MAKER,
            command=command,
        )
    )
