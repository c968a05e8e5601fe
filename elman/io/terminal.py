"""Terminal output. Control characters in data are shown escaped, never interpreted by the terminal.

Results are written to standard output; notes, details and progress to standard error.
"""

import io
import os
import re
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import IntEnum
from typing import TextIO

# C0 but tab and line breaks, DEL, C1; and what changes the direction of a text, which can make a file name look like
# another one.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")


def escaped(text: str) -> str:
    r"""Escape the control characters of a text as Python writes them. Tabs and line breaks stay.

    >>> print(escaped("a\x1b]0;b\x07"))
    a\x1b]0;b\x07
    """
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def show(line: str, file: TextIO | None = None) -> None:
    """Print a line for people, escaped.

    Args:
        line: the line, which may contain text from data.
        file: output stream; None means standard output.
    """
    print(escaped(line), file=sys.stdout if file is None else file)


class Verbosity(IntEnum):
    """Amount of output besides results."""

    QUIET = 0  # errors only
    NORMAL = 1  # notes and progress
    VERBOSE = 2  # details too


_verbosity = ContextVar("verbosity", default=Verbosity.NORMAL)


def verbosity() -> Verbosity:
    """Return the current verbosity."""
    return _verbosity.get()


def set_verbosity(level: Verbosity) -> None:
    """Set the verbosity until `guarded` ends."""
    _verbosity.set(level)


def note(line: str) -> None:
    """Print one line for people on standard error, unless --quiet is set."""
    if verbosity() >= Verbosity.NORMAL:
        show(line.replace("\n", "\\n"), sys.stderr)  # a label with a line break must not look like another message


def detail(line: str) -> None:
    """Print a line on standard error if --verbose is set."""
    if verbosity() >= Verbosity.VERBOSE:
        show(line, sys.stderr)


class Guarded(io.TextIOBase):
    """A text stream that escapes what is written to a terminal.

    Args:
        terminal: the terminal's stream. rich writes its colour codes to it directly, as `rich_proxied_file`.
    """

    def __init__(self, terminal: TextIO) -> None:
        self.rich_proxied_file = terminal

    def write(self, text: str) -> int:
        """Write a text, escaped, and return its length."""
        self.rich_proxied_file.write(escaped(text))
        return len(text)

    def flush(self) -> None:
        """Flush the terminal's stream."""
        self.rich_proxied_file.flush()

    def isatty(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor of the terminal's stream."""
        return self.rich_proxied_file.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the terminal's stream."""
        return self.rich_proxied_file.encoding


@contextmanager
def guarded() -> Iterator[None]:
    """Escape control characters on standard output and standard error where they are terminals.

    Files and pipes receive the exact text. The streams and the verbosity are restored at the end.
    """
    streams, level = (sys.stdout, sys.stderr), verbosity()
    sys.stdout, sys.stderr = (Guarded(stream) if stream.isatty() else stream for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        set_verbosity(level)


def terminating_signals() -> list[int]:
    """Return the signals that ask a process to end: SIGTERM, and SIGHUP unless it is ignored, as under nohup."""
    hangup: int | None = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hangup]


def leave_closed_terminal(number: int) -> None:
    """Prepare the end of a process whose terminal may be closed.

    It may receive SIGHUP from the terminal and from the shell: only the first counts. What it writes to a terminal that
    is closed would be an error, and goes to the null device.

    Args:
        number: the signal that was received; only SIGHUP says that a terminal is closed.
    """
    if number != getattr(signal, "SIGHUP", None):
        return
    signal.signal(number, signal.SIG_IGN)
    for descriptor in (1, 2):
        with suppress(OSError):  # not open
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)
