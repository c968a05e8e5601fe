"""Runs compiled code on torch's own OpenMP threads.

torch's OpenMP threads spin for a while after every parallel region, so a second thread pool would compete with them for
the same cores. The OpenMP libraries of GNU and Intel both export `GOMP_parallel`; in the library that torch is linked
with, it uses the same threads as torch. Without it, everything runs on the calling thread.
"""

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

import torch

from elman.engine.cpu.arguments import Word

_forked = False


def _after_fork() -> None:
    # The child process has none of its parent's threads, and OpenMP does not know that.
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def library() -> Any:
    """Return a handle to the OpenMP library that torch uses, or None.

    A process may have loaded several: scikit-learn ships its own. A handle to torch's library resolves names in the
    libraries that it is linked with.
    """
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not path.exists():
        return None
    handle = ctypes.CDLL(str(path))
    if not hasattr(handle, "GOMP_parallel"):
        return None
    handle.GOMP_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    return handle


def library_path() -> Path | None:
    """Return the file of the OpenMP library that torch uses, or None."""
    if library() is None:
        return None
    symbol = _Symbol()
    ctypes.CDLL(None).dladdr(ctypes.cast(library().GOMP_parallel, ctypes.c_void_p), ctypes.byref(symbol))
    return Path(os.fsdecode(symbol.file)) if symbol.file else None


class _Symbol(ctypes.Structure):
    """The result of `dladdr`: the file and the address of a library, and the name and the address of a symbol."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def threads() -> int:
    """Return how many threads a computation may use now: torch's number, or 1 if torch's threads cannot be used."""
    return 1 if _forked or library() is None else torch.get_num_threads()


@functools.cache
def asleep() -> bool:
    """Return True if idle threads sleep at once instead of spinning, so that every parallel region must wake them.

    OpenMP reads this from the environment once, when torch is loaded.
    """
    spins = os.environ.get("GOMP_SPINCOUNT", "")
    return int(spins) < 10_000 if spins.isdecimal() else os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"


@functools.cache
def addresses() -> dict[Word, int]:
    """Return the addresses of functions that compiled code calls: thread number, thread count, system calls."""
    if library() is None:
        return {}
    functions = {
        Word.THREAD_NUM: library().omp_get_thread_num,
        Word.NUM_THREADS: library().omp_get_num_threads,
        Word.SYSCALL: ctypes.CDLL(None).syscall,
    }
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in functions.items()}


def parallel(function: int, data: int, count: int) -> None:
    """Call the function at an address with `data` on `count` threads, and wait for all of them."""
    library().GOMP_parallel(function, data, count, 0)
