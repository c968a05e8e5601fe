"""Requests that are refused, with a status of HTTP and one line."""

import re

from starlette.exceptions import HTTPException

from elman.io.terminal import escaped
from elman.tasks.api import with_python_names

MAX_LINE = 500  # characters
_HINT = re.compile(r"; pass --skip-bad[^;]*")  # to somebody at the command line


class Refused(HTTPException):
    """A request that is refused, with a message that may contain text from it."""


def line(message: str) -> str:
    r"""Return a message in one line of limited length, without control characters, with the names of options in JSON.

    >>> line("--prompt: expected\n a text, got '\x1b'")
    "prompt: expected a text, got '\\x1b'"
    """
    text = escaped(" ".join(with_python_names(_HINT.sub("", message)).split()))
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 1]}…"
