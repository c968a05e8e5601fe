"""The exceptions that a user is meant to see."""


class BadInput(Exception):
    """What the user gave cannot be used.

    Its message is one line: which file or option, what was expected, what came. The command line prints it and ends
    with exit code 2.
    """


class MissingPackage(ModuleNotFoundError):
    """A part of elman needs a package that is not installed; the message says what to install."""
