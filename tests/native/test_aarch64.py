"""Kernels for 64-bit ARM: NEON code, and in an emulator the numbers of this machine."""

import functools
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman
from elman.engine import EXECUTORS
from elman.engine.compiled.plan_cache import cached_plan
from elman.engine.cpu import codegen, invocation, jit, library
from elman.engine.cpu.arguments import PlanArguments
from elman.engine.cpu.call_rows import CallRows, CopyWords
from elman.engine.cpu.compiled_plan import KernelLibrary, library_for
from elman.engine.cpu.gemm_tile import VECTORS, tile_panels, tile_rows
from tests.cases import CASES, Case, Sizes, gradients, name_of, problem, recurrent
from tests.native.emulated import ARM, COMPILER, EMULATOR, Emulator, bodies, initialize, without_prepared_calls
from tests.native.pairs import key_of
from tests.tolerances import HALF_TOLERANCES, TOLERANCES, all_close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
MISSING = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
emulated = pytest.mark.skipif(bool(MISSING), reason=f"there is no {' and no '.join(MISSING)}")

SIZES = Sizes(T=9, B=6, D=261, H=19)  # more than a block of depth; the last panels and tiles are not full


class OwnCell(nn.Module):
    """Has operations that LSTM and GRU lack: reductions, functions of the C library, comparisons."""

    def __init__(self, D: int, H: int) -> None:
        super().__init__()
        self.state_size = (H, H)
        self.U, self.W, self.b = (nn.Parameter(torch.randn(shape) / 4) for shape in ((D, H), (H, H), (H,)))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        a = x @ self.U / 4 + h @ self.W + self.b
        shares = torch.softmax(a, -1)
        c = torch.where(a > 0, torch.sin(a), torch.erf(a)) + c * torch.sigmoid(a - a.amax(-1, keepdim=True))
        return torch.tanh(c) * shares + torch.log1p(torch.exp(-a.abs())) / 2, c


EXACT = [case for case in CASES if case.name in ("RNN-tanh", "GRU", "LSTM")]
CELLS = [*EXACT, Case("own", recurrent(OwnCell))]


@pytest.fixture
def on_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Runs a function whose layers compute in the emulator; chunks are small here and there."""
    monkeypatch.setattr(invocation, "CHUNK_ROWS", 40)
    monkeypatch.setattr(invocation.CallLayout, "frame", invocation.CallLayout.make_frame)  # none is remembered
    without_prepared_calls(monkeypatch)
    return Emulator(tmp_path)


def compute(case: Case, dtype: torch.dtype, sizes: Sizes = SIZES, **options: Any) -> tuple[Sequence[Tensor], ...]:
    """The results of a layer, and the gradients of its input, initial states and parameters."""
    run, inputs, _ = problem(case, sizes, "native", dtype)
    results = run(*inputs, **options)
    return results, gradients(results, inputs)


@emulated
@pytest.mark.parametrize("dtype", [*TOLERANCES, *HALF_TOLERANCES], ids=str)
@pytest.mark.parametrize("case", CELLS, ids=name_of)
def test_numbers(case: Case, dtype: torch.dtype, on_arm: Emulator) -> None:
    here, there = compute(case, dtype), on_arm(lambda: compute(case, dtype))
    assert {"pack_forward", "before", "forward", "backward", "after", "reduce"} <= set(on_arm.calls)
    all_close(there[0], here[0], "outputs")
    all_close(there[1], here[1], "gradients")
    if case in EXACT:  # sums over the columns of a row, and functions of the C library, depend on the machine
        assert all(map(torch.equal, (*there[0], *there[1]), (*here[0], *here[1])))


@emulated
def test_ragged_rows(on_arm: Emulator) -> None:
    ragged = functools.partial(compute, EXACT[-1], torch.float32, lengths=[9, 1, 0, 4, 9, 3])
    here, there = ragged(), on_arm(ragged)
    assert all(map(torch.equal, (*there[0], *there[1]), (*here[0], *here[1])))


@emulated
@pytest.mark.parametrize("by_columns", [True, False], ids=["columns", "rows"])
def test_two_threads(by_columns: bool, on_arm: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The barrier too. The emulator has the memory order of this machine, which may be stricter than ARM's."""
    here = compute(EXACT[-1], torch.float32)
    monkeypatch.setattr(invocation, "threads_for", lambda *_: (2, by_columns))
    there = on_arm(lambda: compute(EXACT[-1], torch.float32))
    assert all(map(torch.equal, (*there[0], *there[1]), (*here[0], *here[1])))


@emulated
@pytest.mark.parametrize("case", EXACT, ids=name_of)
def test_matrices_that_are_not_packed(case: Case, on_arm: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of single steps: `gemv.py`. They sum in an order that depends on the width of vectors."""
    step = functools.partial(compute, case, torch.float64, Sizes(T=1, B=3, D=37, H=19))
    here = step()
    make_frame = invocation.CallLayout.make_frame
    monkeypatch.setattr(
        invocation.CallLayout, "frame", lambda layout, rows, count: make_frame(layout, rows, count, direct=True)
    )
    run = on_arm.run_invocation
    monkeypatch.setattr(  # there is no memory for packed matrices
        on_arm, "run_invocation", lambda call, f: None if "pack" in on_arm.name_of(f) else run(call, f)
    )
    there = on_arm(step)
    assert not any("pack" in name for name in on_arm.calls)
    all_close(there[0], here[0], "outputs")
    all_close(there[1], here[1], "gradients")


@emulated
@pytest.mark.parametrize("reverse", [False, True])
def test_copies_of_rows(reverse: bool, on_arm: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those by which prepared calls pack sequences of different lengths: `steps.py`."""
    T, B, width, lengths = 5, 4, 11, np.array([3, 5, 0, 4])
    x, here = torch.randn(T, B, width), library_for(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "this_machine", lambda: ARM)
        patch.setattr(jit, "compile_module", on_arm.compile_module)
        there = KernelLibrary("float32")

    def packed(copy_rows: int, run_alone: Callable[[CallRows, int, Tensor], None]) -> Tensor:
        native: Any = SimpleNamespace(copy_rows=copy_rows, lay_out_rows=here.lay_out_rows)
        rows = CallRows(native, T, lengths)
        target = torch.zeros(rows.N, width)
        native.run_alone = lambda address: run_alone(rows, address, target)
        source = rows.padded(x.data_ptr(), B * width, width)
        rows.copy(source, rows.packed(target.data_ptr(), width), width, reverse=reverse)
        return target

    def emulate(rows: CallRows, address: int, target: Tensor) -> None:
        memory = {tensor.data_ptr(): tensor.nbytes for tensor in (x, target)}
        memory[rows._memory.ctypes.data] = rows._memory.nbytes
        on_arm.run(there.copy_rows, [*CopyWords.from_address(address)], memory)

    expected = packed(here.copy_rows, lambda rows, address, target: here.alone(address))
    assert torch.equal(packed(there.copy_rows, emulate), expected)
    assert expected.count_nonzero() == 12 * width


@pytest.mark.sample(1)
@pytest.mark.parametrize(("dtype", "arrangement"), [("float32", "4s"), ("float64", "2d")])
def test_products_are_neon(dtype: str, arrangement: str) -> None:
    """Each tile multiplies and adds vectors, as many as it has sums, and keeps all of them in registers.

    In bfloat16, of which each word is unpacked, tiles of 10 rows and more keep some of them in memory.
    """
    initialize()
    real = ARM.real(dtype)
    text = jit.module_text(ARM, dtype, functools.partial(library.write, real=real))
    functions = bodies(jit.assembly(ARM, text))
    multiply = re.compile(rf"fmla v\d+\.{arrangement}")
    for rows in range(1, tile_rows(real) + 1):
        blocks = functions[f"tile_{rows}x{tile_panels(real, rows)}"]
        loops = [block for block in blocks if any(map(multiply.match, block))]
        assert len(loops) == 1
        products = [line for line in loops[0] if line.startswith(("fmla", "fmadd", "fmul"))]
        assert len(products) == rows * tile_panels(real, rows) * VECTORS
        assert all(map(multiply.match, products))
        assert [line for line in loops[0] if "[sp" in line or line.startswith("bl ")] == []


def test_elementary_functions_are_neon() -> None:
    """A whole loop of an LSTM calls nothing but elman's own products."""
    initialize()
    real = ARM.real("float32")
    layer = next(case for case in EXACT if case.name == "LSTM").build(3, 9, executor="native")
    assert isinstance(layer, elman.Stack)
    plan = cached_plan(key_of(layer)).plan
    write = functools.partial(codegen.write, plan=plan, loop="forward", real=real, arguments=PlanArguments(plan))
    functions = bodies(jit.assembly(ARM, jit.module_text(ARM, "forward", write)))
    lines = [line for blocks in functions.values() for block in blocks for line in block]
    assert sum(bool(re.match(r"fmla v\d+\.4s|fdiv v\d+\.4s", line)) for line in lines) > 20
    called = {match[1] for line in lines if (match := re.match(r"bl? (\w+)$", line)) and not line.startswith("b .")}
    assert called
    assert all(name.startswith("elman_") for name in called)


def test_an_arm_machine_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm, "get_process_triple", lambda: ARM.triple)
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "neoverse-v1")
    features = llvm.FeatureMap({"neon": True, "sve": True, "bf16": True})
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    for wanted in ("16", "64"):
        monkeypatch.setenv("ELMAN_VECTOR_BYTES", wanted)
        machine = jit.this_machine.__wrapped__()
        assert (machine.vector_bytes, machine.bf16_dot) == (16, False)
        assert machine.features == "+bf16,+neon,+sve"
        assert machine.bf16_products() == "by conversion to float32: Arm's BF16 not used"
        real = machine.real("float32")
        assert (real.lanes, real.registers) == (4, 32)
