"""Runs the library's matrix product by itself, for the peak speed that `elman bench` compares with."""

import ctypes

import torch
from torch import Tensor

from elman.engine.cpu import jit, openmp
from elman.engine.cpu.arguments import Word
from elman.engine.cpu.compiled_plan import library_for
from elman.engine.cpu.function_builder import SIGNATURE
from elman.engine.cpu.gemm_tile import packed_size, panel_width
from elman.engine.cpu.ir_builder import INT, POINTER, Code, Real
from elman.engine.cpu.signatures import declare

ARGUMENTS = ("kernel", "thread_num", "num_threads", "a", "b", "c", "panels", "M", "K", "N", "pack")


class PackedMatmul:
    """Multiplies contiguous matrices by one that is packed once, on torch's number of threads.

    In bfloat16, matrices are converted to float32, as the products of a compiled plan read and write them.

    >>> import torch
    >>> matmul = PackedMatmul(torch.ones(4, 2))
    >>> matmul(torch.ones(3, 4))[0].tolist()
    [4.0, 4.0]
    """

    def __init__(self, b: Tensor) -> None:
        self._library = library_for(b.dtype)
        real, (K, self._columns) = self._library.real, b.shape
        self._dtype = getattr(torch, real.name)
        b = b.to(self._dtype)
        addresses = openmp.addresses()
        self._code = jit.compile_module(
            jit.this_machine(), f"matmul-{real.dtype}", real.dtype,
            lambda module: _write(module, real), ["matmul"], self._library.functions,
        )  # fmt: skip
        self._panels = b.new_empty(packed_size(real, K, self._columns))
        self._data = (ctypes.c_int64 * len(ARGUMENTS))(
            self._code["matmul"], addresses.get(Word.THREAD_NUM, 0), addresses.get(Word.NUM_THREADS, 0),
            0, b.data_ptr(), 0, self._panels.data_ptr(), 0, K, self._columns, 1,
        )  # fmt: skip
        self._run()
        self._set("pack", 0)

    def __call__(self, a: Tensor) -> Tensor:
        """Multiply A (M, K) by the matrix."""
        a = a.to(self._dtype)
        c = a.new_empty(len(a), self._columns)
        for name, value in (("a", a.data_ptr()), ("c", c.data_ptr()), ("M", len(a))):
            self._set(name, value)
        self._run()
        return c

    def _set(self, name: str, value: int) -> None:
        self._data[ARGUMENTS.index(name)] = value

    def _run(self) -> None:
        self._library.run(ctypes.addressof(self._data), openmp.threads())


def _write(module: object, real: Real) -> None:
    code = Code(module, "matmul", SIGNATURE, real, public=True)
    b = code.b
    words = {name: b.load(code.at(code["data"], i, INT), typ=INT) for i, name in enumerate(ARGUMENTS)}
    pointers = {name: b.inttoptr(words[name], POINTER) for name in ("a", "b", "c", "panels")}
    M, K, N = words["M"], words["K"], words["N"]
    panels = code.ceil_div(N, panel_width(real))
    with b.if_else(code.compare(words["pack"], "!=", 0)) as (packing, multiplying):
        with packing:
            share = code.share(panels, code["thread"], code["thread_count"])
            code.call(declare(code, "pack"), pointers["b"], N, 1, K, N, *share, pointers["panels"])
        with multiplying:
            begin, end = code.share(M, code["thread"], code["thread_count"])
            a, c = code.at(pointers["a"], code.mul(begin, K)), code.at(pointers["c"], code.mul(begin, N))
            rows = code.sub(end, begin)
            code.call(declare(code, "product"), a, K, pointers["panels"], c, N, rows, N, K, 0, panels, 0, 0)
    code.end()
