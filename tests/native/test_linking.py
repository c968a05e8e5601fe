"""Compiled code is linked in processes whose memory is large and in pieces: nothing aborts."""

import subprocess
import sys

import pytest

from elman.engine import EXECUTORS

# Memory is reserved between two links, as a user's data or CUDA's libraries do. MCJIT's linker aborted here every time.
SCRIPT = """
import ctypes, random, torch, elman
from elman.engine.cpu import jit

reserve = ctypes.CDLL(None).mmap
reserve.restype = ctypes.c_void_p
reserve.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
random.seed(0)

def reserve_some():
    PROT_NONE, PRIVATE_ANONYMOUS_NORESERVE = 0, 0x4022
    reserve(None, random.choice([1 << 20, 64 << 20, 1 << 30]), PROT_NONE, PRIVATE_ANONYMOUS_NORESERVE, -1, 0)

def run(k):
    reserve_some()
    cell = torch.nn.GRUCell(3, 4 + k, dtype=torch.float32 if k % 2 else torch.float64)
    x = torch.ones(5, 2, 3, dtype=cell.weight_ih.dtype, requires_grad=True)
    expected, actual = (elman.Recurrent(cell, executor=executor)(x)[0] for executor in ("loop", "native"))
    torch.testing.assert_close(actual, expected)
    for gradients in zip(*(torch.autograd.grad(y.sum(), x) for y in (expected, actual))):
        torch.testing.assert_close(*gradients)

run(0)
codes = []
link = jit.CompiledModule.__init__
def remember(self, *arguments):
    codes.append(arguments)
    link(self, *arguments)
jit.CompiledModule.__init__ = remember
run(1)
jit.CompiledModule.__init__ = link
alive = []
for k in range(700):
    reserve_some()
    alive += [jit.CompiledModule(*arguments) for arguments in codes]
for k in range(2, 6):
    run(k)
print(len(codes), len(alive))
"""


@pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
def test_links_in_fragmented_memory() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "3 2100\n"), result.stderr
