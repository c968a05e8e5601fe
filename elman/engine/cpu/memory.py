"""Allocates scratch memory, in huge pages if it is large."""

import ctypes
import functools
import mmap
import sys
from typing import Any

from torch import Tensor

HUGE_PAGE_THRESHOLD = 1 << 22  # bytes from which on huge pages are requested


def empty(like: Tensor, count: int) -> Tensor:
    """Allocate `count` uninitialized numbers of the dtype of another tensor.

    Large memory is returned to the system when it is freed, and then mapped again page by page; and every product reads
    all of the packed matrices. With pages of 2 MiB instead of 4 KiB, a loop with H = 1024 was measured 6 % faster. Many
    systems give huge pages only to programs that request them. Results do not use them: threads that write to one huge
    page for the first time wait for each other, and with H = 1024 a step that saves its gates became slower.
    """
    tensor = like.new_empty(count)
    size = tensor.nbytes
    if size >= HUGE_PAGE_THRESHOLD and (madvise := _madvise()) is not None:
        address = tensor.data_ptr()
        begin = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        # Only a hint: a system that cannot follow it uses small pages.
        madvise(begin, address + size - begin, mmap.MADV_HUGEPAGE)
    return tensor


@functools.cache
def _madvise() -> Any:
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return madvise
