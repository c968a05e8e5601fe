"""Uses torch's own OpenMP threads, and no others.

torch's OpenMP threads spin for a while after every parallel region, so a second pool beside them would fight for the
same cores. GNU's OpenMP library and Intel's both offer `GOMP_parallel`; that of the library which torch was linked with
lets the very same threads run. Where there is none, everything runs on the calling thread.
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
    # The child has none of its parent's threads, and OpenMP does not know.
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def library() -> Any:
    """The OpenMP library that torch computes with, or None.

    A process may have several: scikit-learn brings its own. By a handle to torch's library a name is looked for in what
    that was linked with.
    """
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not path.exists():
        return None
    found = ctypes.CDLL(str(path))
    return found if hasattr(found, "GOMP_parallel") else None


def threads() -> int:
    """How many threads a computation may use now: torch's number, or 1 where they cannot be shared."""
    return 1 if _forked or library() is None else torch.get_num_threads()


@functools.cache
def asleep() -> bool:
    """Whether waiting threads sleep at once, so that every new piece of work has to wake them.

    OpenMP reads this from the environment once, when torch is loaded.
    """
    spins = os.environ.get("GOMP_SPINCOUNT", "")
    return int(spins) < 10_000 if spins.isdecimal() else os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"


@functools.cache
def addresses() -> dict[Word, int]:
    """Of what compiled code calls: which thread it runs on, of how many, and how to let others run."""
    if library() is None:
        return {}
    of = {
        Word.THREAD_NUM: library().omp_get_thread_num,
        Word.NUM_THREADS: library().omp_get_num_threads,
        Word.SYSCALL: ctypes.CDLL(None).syscall,
    }
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in of.items()}


def parallel(function: int, data: int, count: int) -> None:
    """Let `count` threads call the function at an address with `data`, and wait for all of them."""
    library().GOMP_parallel(ctypes.c_void_p(function), ctypes.c_void_p(data), ctypes.c_uint(count), ctypes.c_uint(0))
