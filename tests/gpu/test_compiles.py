"""The generated kernels compile for GPUs, without one: the interpreter does not check types, and takes any Python."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn

from elman import cells
from elman.engine.plan.planner import plan
from elman.engine.trace.capture import MARKERS, capture
from elman.engine.trace.errors import CannotCapture
from tests import odd
from tests.contract import test_operations

triton = pytest.importorskip("triton", reason="the package triton is not installed")
import triton.language as tl  # noqa: E402
from triton._C.libtriton import ir  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource, make_backend  # noqa: E402

from elman.engine.gpu.codegen import KernelSpec  # noqa: E402
from elman.engine.gpu.triton_plan import TritonPlan, options_of  # noqa: E402

H100 = GPUTarget("cuda", 90, 32)
POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64"}


@pytest.fixture(autouse=True)
def own_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path / "elman"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))


def generated(cell: nn.Module, D: int, state_size: Any, dtype: torch.dtype = torch.float32) -> TritonPlan:
    shapes = {name: value.shape for name, value in cell.named_parameters()}
    for marker in MARKERS:
        try:
            step, _ = capture(cell, shapes, D, state_size, marker)
            return TritonPlan(plan(step), "tested", dtype, "cuda")
        except CannotCapture:
            if marker is MARKERS[-1]:
                raise
    raise AssertionError


def kernels(compiled: TritonPlan) -> Iterator[KernelSpec]:
    yield from compiled.source.whole.values()
    for specs in (*compiled.source.step.values(), *chain.from_iterable(compiled.source.rows.values())):
        yield from specs


def source_of(compiled: TritonPlan, spec: KernelSpec) -> Any:
    pointer = POINTERS[compiled.dtype]
    signature = {name: "*i64" if name == "begins" else pointer for name in spec.pointers}
    signature |= dict.fromkeys(spec.integers, "i32") | {"REAL": "constexpr", "PRECISION": "constexpr"}
    constants = {"REAL": getattr(tl, str(compiled.real).removeprefix("torch.")), "PRECISION": "ieee"}
    return ASTSource(compiled.functions[spec.name], signature=signature, constexprs=constants)


def check(compiled: TritonPlan) -> None:
    """Raise an error unless every kernel is valid Triton."""
    backend = make_backend(H100)
    options = backend.parse_options({**options_of(compiled.dtype), "arch": "sm90"})
    for spec in kernels(compiled):
        context = ir.context()
        ir.load_dialects(context)
        backend.load_dialects(context)
        functions = backend.get_codegen_implementation(options)
        module = source_of(compiled, spec).make_ir(H100, options, functions, backend.get_module_map(), context)
        assert module.verify()


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, torch.float32) for name in cells.REGISTRY), ("lstm", torch.float64)], ids=str
)
def test_the_shelf(name: str, dtype: torch.dtype) -> None:
    cell = cells.by_name(name)(5, 37)
    check(generated(cell, 5, cell.state_size, dtype))


@pytest.mark.sample(3)
@odd.every_odd_cell
def test_odd_cells(name: str) -> None:
    cell = odd.Cell(name, 4)
    for unused in ("decay",):  # a buffer, which is an input like the parameters
        cell.register_parameter(unused, nn.Parameter(cell._buffers.pop(unused)))  # type: ignore[arg-type]
    check(generated(cell, odd.D, cell.state_size))


@pytest.mark.slow
@pytest.mark.parametrize("name", test_operations.OPERATIONS)
def test_operations_of_cells(name: str) -> None:
    cell = test_operations.Cell(test_operations.OPERATIONS[name])
    check(generated(cell, test_operations.D, cell.state_size))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_shared_memory_is_little(name: str) -> None:
    cell = cells.by_name(name)(128, 128)
    compiled = generated(cell, 128, cell.state_size)
    kernel = triton.compile(
        source_of(compiled, compiled.source.whole["forward"]), target=H100, options=options_of(compiled.dtype)
    )
    assert kernel.metadata.shared <= 48 * 1024
