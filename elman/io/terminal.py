"""Terminals: texts from data are shown as they are, and their control characters are not obeyed.

Results go to standard output; notes, details and progress to standard error.
"""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import TextIO

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


def escaped(text: str) -> str:
    r"""A text whose control characters (C0, DEL, C1) are written as Python writes them; tabs and line breaks stay.

    >>> print(escaped("a\x1b]0;b\x07"))
    a\x1b]0;b\x07
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def show(line: str, file: TextIO | None = None) -> None:
    """Print a line for people.

    Args:
        line: that may have texts from data in it.
        file: None: standard output.
    """
    print(escaped(line), file=sys.stdout if file is None else file)


class Verbosity(IntEnum):
    """What is printed beside the results."""

    QUIET = 0  # nothing but errors
    NORMAL = 1  # notes and progress
    VERBOSE = 2  # details too


_verbosity = ContextVar("verbosity", default=Verbosity.NORMAL)


def verbosity() -> Verbosity:
    """What is printed beside the results."""
    return _verbosity.get()


def set_verbosity(level: Verbosity) -> None:
    """Choose what is printed beside the results, until the end of `guarded`."""
    _verbosity.set(level)


def note(line: str) -> None:
    """Print a line for people beside the results, on standard error; nothing with --quiet."""
    if verbosity() >= Verbosity.NORMAL:
        show(line, sys.stderr)


def detail(line: str) -> None:
    """Print a line on standard error with --verbose."""
    if verbosity() >= Verbosity.VERBOSE:
        show(line, sys.stderr)


class Guarded(io.TextIOBase):
    """A terminal to which texts are written escaped.

    Args:
        terminal: the stream; rich, which writes codes for colours, finds it as `rich_proxied_file`.
    """

    def __init__(self, terminal: TextIO) -> None:
        self.rich_proxied_file = terminal

    def write(self, text: str) -> int:
        """Write a text or a part of one."""
        self.rich_proxied_file.write(escaped(text))
        return len(text)

    def flush(self) -> None:
        """Let everything be seen that was written."""
        self.rich_proxied_file.flush()

    def isatty(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Of the stream."""
        return self.rich_proxied_file.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return self.rich_proxied_file.encoding


@contextmanager
def guarded() -> Iterator[None]:
    """Guard standard output and standard error where they are terminals; files and pipes get exact text.

    Verbosity is restored at the end.
    """
    before, level = (sys.stdout, sys.stderr), verbosity()
    sys.stdout, sys.stderr = (Guarded(one) if one.isatty() else one for one in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        set_verbosity(level)
