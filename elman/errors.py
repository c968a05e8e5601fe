"""The exceptions that a user is meant to see."""

import errno


class BadInput(Exception):
    """What the user gave cannot be used.

    Its message is one line: which file or option, what was expected, what came. The command line prints it and ends
    with exit code 2.
    """


class Failure(Exception):
    """The input was good, and what was asked for failed: a training diverged, memory or disk space ran out.

    Its message is one line. The command line prints it and ends with exit code 1.
    """


class MissingPackage(ModuleNotFoundError):
    """A part of elman needs a package that is not installed; the message says what to install."""


class Terminated(BaseException):
    """The process got SIGTERM, as KeyboardInterrupt says that it got SIGINT."""


# Errors that another path would not have met.
_OF_PATHS = {
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM,
    errno.EROFS,
}  # fmt: skip


def os_failure(error: OSError, message: str) -> BadInput | Failure:
    """The exception for an error of the operating system: bad input if the path is to blame, else a failure.

    >>> os_failure(PermissionError(errno.EACCES, "Permission denied"), "a.txt: Permission denied")
    BadInput('a.txt: Permission denied')
    >>> os_failure(OSError(errno.ENOSPC, "No space left on device"), "a.txt: No space left on device")
    Failure('a.txt: No space left on device')
    """
    return (BadInput if error.errno in _OF_PATHS else Failure)(message)
