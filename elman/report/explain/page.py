"""Renders a lesson as a self-contained HTML page."""

from elman.io.files import MAKER
from elman.report.explain.lesson import Lesson, as_json
from elman.report.templates import environment, text_of

SCRIPTS = ("network.js", "notation.js", "drawing.js", "panels.js", "sections.js", "page.js")


def write(lesson: Lesson, losses: list[float], command: str) -> str:
    """Render the page as HTML.

    Args:
        lesson: the lesson.
        losses: losses of the training in Python, which the page compares with its own.
        command: the command that creates the page, for its last line.
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
