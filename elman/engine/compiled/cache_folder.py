"""The folder of compiled kernels and generated sources."""

import os
import tempfile
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the folder of the cache: ELMAN_CACHE, or the platform's folder for the user's caches."""
    return Path(os.environ.get("ELMAN_CACHE") or platformdirs.user_cache_dir("elman", appauthor=False))


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically, for other processes may write the same one; not at all if the folder refuses it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    except OSError:
        return  # without a cache, every process compiles
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
