"""The one exception that a user is meant to see."""


class BadInput(Exception):
    """What the user gave cannot be used.

    Its message is one line: which file or option, what was expected, what came. The command line prints it and ends
    with exit code 2.
    """
