"""Exceptions whose messages are meant for users."""

import errno
import re
import signal


class BadInput(Exception):
    """An input or option of the user cannot be used.

    The message is one line: the file or option, what was expected, and what was found. The command line prints it and
    exits with code 2.
    """


class Failure(Exception):
    """The input was valid but the operation failed, for example diverged training, or no memory or disk space left.

    The message is one line. The command line prints it and exits with code 1.
    """


class MissingPackage(ModuleNotFoundError):
    """A part of elman needs a package that is not installed. The message says what to install."""


class Terminated(BaseException):
    """The process received SIGTERM or SIGHUP, as KeyboardInterrupt means that it received SIGINT.

    The command line also raises it for SIGINT, so that typer does not catch it.

    Args:
        signal: the signal number.
    """

    def __init__(self, signal: int = signal.SIGTERM) -> None:
        super().__init__(signal)
        self.signal = signal


# Errors that depend on the path: another path could have worked.
_PATH_ERRORS = {
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM,
    errno.EROFS,
}  # fmt: skip


_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)  # messages of torch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out: that of the machine, or of a device of torch."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def os_failure(error: OSError, message: str) -> BadInput | Failure:
    """Return the exception for an operating-system error: `BadInput` if the path is to blame, otherwise `Failure`.

    >>> os_failure(PermissionError(errno.EACCES, "Permission denied"), "a.txt: Permission denied")
    BadInput('a.txt: Permission denied')
    >>> os_failure(OSError(errno.ENOSPC, "No space left on device"), "a.txt: No space left on device")
    Failure('a.txt: No space left on device')
    """
    return (BadInput if error.errno in _PATH_ERRORS else Failure)(message)
