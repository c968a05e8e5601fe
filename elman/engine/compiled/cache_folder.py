"""The folder of compiled kernels and generated sources: private to its user, and authenticated.

Kernels are machine code: whoever can put a file there could run code as this user. So the folder and its files must
belong to the user and be writable by nobody else, links are not followed, and kernels begin with a digest by a key that
only the user can read.
"""

import contextlib
import hmac
import os
import secrets
import stat
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path

import platformdirs

KEY = ".key"  # name of the file with the key
KEY_BYTES = 32
DIGEST = "sha256"
DIGEST_BYTES = 32
_KEY_SECONDS = 1.0  # to wait for another process to write the key that it has created


def cache_folder() -> Path:
    """Return the folder of the cache: ELMAN_CACHE, or the platform's folder for the user's caches."""
    return Path(os.environ.get("ELMAN_CACHE") or platformdirs.user_cache_dir("elman", appauthor=False))


def unsafe(folder: Path) -> str | None:
    """Return why other users could put files into a folder; None if they cannot, or if there is no such folder."""
    if not hasattr(os, "getuid"):  # Windows: the folders of a user are private by its access control lists
        return None
    try:
        link, status = folder.lstat(), folder.stat()
    except OSError:
        return None
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (os.getuid(), 0):
        return "it is a link that belongs to another user"
    if status.st_uid != os.getuid():
        return "it belongs to another user"
    return "other users can write to it" if status.st_mode & 0o022 else None


def is_usable(folder: Path) -> bool:
    """Return whether a folder can be the cache; warn once if other users could put files into it."""
    reason = unsafe(folder)
    if reason is not None:
        _warn(folder, reason)
    return reason is None


@cache
def _warn(folder: Path, reason: str) -> None:
    warnings.warn(
        f"the cache of compiled code is not used, so that every process compiles: {folder}: {reason}; "
        f"make it private (chmod go-w), or set ELMAN_CACHE to a folder of your own",
        RuntimeWarning,
        stacklevel=2,
    )


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically, for other processes may write the same one.

    It is not written at all if the folder refuses it, or if other users can write to the folder.
    """
    _write(path, content, signed=False)


def write_signed(path: Path, content: bytes) -> None:
    """Write a file as `write_file` does, which `read_signed` reads."""
    _write(path, content, signed=True)


def read_signed(path: Path) -> bytes | None:
    """Return the content of a file that `write_signed` has written; None for any other file, or if there is none."""
    folder = path.parent
    if not is_usable(folder) or (data := _read_private(path)) is None or (key := _key(folder)) is None:
        return None
    digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    return content if hmac.compare_digest(digest, _digest(key, path, content)) else None


def _write(path: Path, content: bytes, signed: bool) -> None:
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_usable(folder):
            return
        descriptor, temporary = tempfile.mkstemp(dir=folder)
    except OSError:
        return  # without a cache, every process compiles
    try:
        with os.fdopen(descriptor, "wb") as file:
            if signed:
                if (key := _key(folder) or _new_key(folder)) is None:
                    raise OSError("no key")
                file.write(_digest(key, path, content))
            file.write(content)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)


def _digest(key: bytes, path: Path, content: bytes) -> bytes:
    """Return the digest of a file by its name and its content, so that no file can take the place of another."""
    return hmac.digest(key, path.name.encode() + b"\0" + content, DIGEST)


def _key(folder: Path) -> bytes | None:
    """Return the key of a cache; None if there is none, or if others can read it."""
    end = time.monotonic() + _KEY_SECONDS
    while (key := _read_private(folder / KEY, readable_by_others=False)) is not None:
        if len(key) == KEY_BYTES:
            return key
        if time.monotonic() > end:  # of a process that was killed
            return None
        time.sleep(_KEY_SECONDS / 50)
    return None


def _new_key(folder: Path) -> bytes | None:
    """Create the key of a cache, unless another process has just done so; replace one that cannot be used."""
    path, key = folder / KEY, secrets.token_bytes(KEY_BYTES)
    if os.path.lexists(path):
        if (written := _key(folder)) is not None:
            return written
        path.unlink()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    except FileExistsError:
        return _key(folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    return key


def _read_private(path: Path, readable_by_others: bool = True) -> bytes | None:
    """Return the content of a regular file of this user that nobody else can write to; None for any other file."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with contextlib.suppress(OSError), os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        is_private = stat.S_ISREG(status.st_mode)
        if hasattr(os, "getuid"):
            forbidden = 0o022 if readable_by_others else 0o077
            is_private &= status.st_uid == os.getuid() and not status.st_mode & forbidden
        return file.read() if is_private else None
    return None
