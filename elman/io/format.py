"""Numbers as people read them, and paths as a shell reads them."""

import shlex
from pathlib import Path


def clock_time(seconds: float) -> str:
    """Seconds as a clock shows them.

    >>> clock_time(75), clock_time(3700)
    ('1:15', '1:01:40')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def counted(many: int, what: str) -> str:
    """So many of something.

    >>> counted(1, "step"), counted(1000, "step")
    ('1 step', '1000 steps')
    """
    return f"{many} {what}{'s' * (many != 1)}"


def shell_path(path: Path) -> str:
    """A path as an argument of a command that can be copied: quoted, and not mistaken for an option.

    >>> shell_path(Path("runs/text-1")), shell_path(Path("my run")), shell_path(Path("-x"))
    ('runs/text-1', "'my run'", './-x')
    """
    name = str(path)
    return shlex.quote(f"./{name}" if name.startswith("-") else name)
