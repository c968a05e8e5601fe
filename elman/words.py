"""Numbers as people read them."""


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
