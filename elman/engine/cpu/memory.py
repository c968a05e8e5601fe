"""Allocates scratch memory, in huge pages where there is much of it."""

import ctypes
import functools
import mmap
import sys
from typing import Any

from torch import Tensor

MANY = 1 << 22  # bytes: from here on, large pages are asked for


def empty(like: Tensor, count: int) -> Tensor:
    """So many numbers of the dtype of another tensor, not filled.

    What is large is given back to the system when it is freed and comes again page by page, and every product reads
    all of the packed matrices: with pages of 2 MiB instead of 4 KiB a loop with H = 1024 was seen to be 6 % faster.
    Many systems give these only to programs that ask. Results do without: threads that write to one large page for the
    first time wait for each other, and with H = 1024 a step that keeps its gates became slower.
    """
    tensor = like.new_empty(count)
    size = tensor.nbytes
    if size >= MANY and (advise := _advise()) is not None:
        address = tensor.data_ptr()
        begin = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        # A wish: a system that cannot grant it goes on with small pages.
        advise(begin, address + size - begin, mmap.MADV_HUGEPAGE)
    return tensor


@functools.cache
def _advise() -> Any:
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return advise
