"""The library's matrix product by itself: what a machine can reach at most, for `elman bench`."""

import ctypes

from torch import Tensor

from elman.through_time.native import host, pool
from elman.through_time.native.executor import library_for
from elman.through_time.native.signatures import declare
from elman.through_time.native.tiles import panel_width
from elman.through_time.native.writer import INT, POINTER, Code, Real

SLOTS = ("work", "thread_num", "num_threads", "a", "b", "c", "panels", "M", "K", "N", "pack")


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product of two contiguous matrices, with torch's number of threads.

    >>> import torch
    >>> matmul(torch.ones(3, 4), torch.ones(4, 2))[0].tolist()
    [4.0, 4.0]
    """
    (M, K), N = a.shape, b.shape[1]
    library = library_for(a.dtype)
    real = library.real
    work, _ = host.compiled(host.this_machine(), f"matmul-{real.name}", real.name, lambda module: _write(module, real))
    NR = panel_width(real)
    panels = a.new_empty(K * -(-N // NR) * NR)
    c = a.new_empty(M, N)
    addresses = pool.addresses()
    data = (ctypes.c_int64 * len(SLOTS))(
        work["matmul"], addresses.get("thread_num", 0), addresses.get("num_threads", 0),
        a.data_ptr(), b.data_ptr(), c.data_ptr(), panels.data_ptr(), M, K, N, 1,
    )  # fmt: skip
    threads = pool.threads()
    for pack in (1, 0):
        data[SLOTS.index("pack")] = pack
        library.run(ctypes.addressof(data), threads)
    return c


def _write(module: object, real: Real) -> None:
    code = Code(module, "matmul", ("*data", "me", "all"), real, public=True)
    b = code.b
    slot = {name: b.load(code.at(code["data"], i, INT), typ=INT) for i, name in enumerate(SLOTS)}
    at = {name: b.inttoptr(slot[name], POINTER) for name in ("a", "b", "c", "panels")}
    M, K, N = slot["M"], slot["K"], slot["N"]
    panels = code.ceil_div(N, panel_width(real))
    with b.if_else(code.is_(slot["pack"], "!=", 0)) as (packing, multiplying):
        with packing:
            share = code.share(panels, code["me"], code["all"])
            code.call(declare(code, "pack"), at["b"], N, 1, K, N, *share, at["panels"])
        with multiplying:
            begin, end = code.share(M, code["me"], code["all"])
            a, c = code.at(at["a"], code.mul(begin, K)), code.at(at["c"], code.mul(begin, N))
            rows = code.sub(end, begin)
            code.call(declare(code, "product"), a, K, at["panels"], c, N, rows, N, K, 0, panels, 0, 0)
    code.end()
