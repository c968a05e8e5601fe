"""Loads generated modules, and writes their source into the cache, where users can read it.

The source is run as it was generated, never from a file: another user might have written that.
"""

import hashlib
import linecache
from pathlib import Path
from typing import Any

from elman.engine.compiled.cache_folder import cache_folder, write_file


def load(key: str, text: str) -> tuple[Path, dict[str, Any]]:
    """Run the text of a module.

    Args:
        key: of the plan.
        text: of the module.

    Returns:
        The file that has the text, unless the cache cannot be written to, and the names that the module defines.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = cache_folder() / f"{key.replace(' ', '-')}-{digest}.py"
    if not path.exists():
        write_file(path, text.encode())
    # Triton reads the source of each function, which `inspect` finds here.
    linecache.cache[str(path)] = len(text), None, text.splitlines(keepends=True), str(path)
    names: dict[str, Any] = {"__name__": f"elman_kernels_{digest}"}
    exec(compile(text, str(path), "exec"), names)  # noqa: S102
    return path, names
