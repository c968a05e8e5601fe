"""Format numbers for people and paths for shells."""

import shlex
from pathlib import Path


def clock_time(seconds: float) -> str:
    """Format seconds as minutes and seconds, or hours, minutes and seconds.

    >>> clock_time(75), clock_time(3700)
    ('1:15', '1:01:40')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def counted(count: int, noun: str) -> str:
    """Format a count and a noun, with a plural s where needed.

    >>> counted(1, "step"), counted(1000, "step")
    ('1 step', '1000 steps')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def shell_path(path: Path) -> str:
    """Quote a path as a shell argument. A path that begins with "-" cannot be mistaken for an option.

    >>> shell_path(Path("runs/text-1")), shell_path(Path("my run")), shell_path(Path("-x"))
    ('runs/text-1', "'my run'", './-x')
    """
    name = str(path)
    return shlex.quote(f"./{name}" if name.startswith("-") else name)
