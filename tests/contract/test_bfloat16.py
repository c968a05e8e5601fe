"""The laws in bfloat16, each within its tolerance of `BFLOAT16_LAWS`, and the table of docs/numerics.md.

Law 1 is tested twice: against double precision, and against the loop executor with the same roundings, which finds what
the roundings would hide. Law 10 is in native/test_threads.py, law 6 in native/test_cache.py, law 7 in
test_poison.py. Laws 2 and 12 have nothing that depends on the dtype, and law 11 is reserved.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import elman
from elman.bptt import Checkpointed, Mode, Truncated
from elman.engine import EXECUTORS
from tests.bfloat16 import (
    DTYPE,
    WAYS,
    RoundedProducts,
    Way,
    compare,
    compute,
    compute_wide,
    half_problem,
    under_autocast,
)
from tests.cases import CASES, SMALL, STACKS, Case, Run, Sizes, as_function, name_of, problem
from tests.contract import test_ragged
from tests.contract.test_split import in_two
from tests.test_checker import with_wrong
from tests.tolerances import BFLOAT16_LAWS, Tolerance, close, within

SIZES = Sizes(T=3, B=3, D=5, H=17)  # 17: a vector and a rest
PAGE = Path(__file__).parents[2] / "docs/numerics.md"
every_case = pytest.mark.parametrize("case", CASES, ids=name_of)
every_stack = pytest.mark.parametrize("case", STACKS, ids=name_of)
every_way = pytest.mark.parametrize("way", WAYS)
executors = [name for name in ("native", "torch", "loop") if name in EXECUTORS]
every_executor = pytest.mark.parametrize("executor", executors)
# The tests of exact roundings have sizes at which no number is so near to a tie that float32 decides how it is rounded.
ROUNDED_SIZES = [SMALL[0], Sizes(T=5, B=3, D=7, H=9)]
native = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


def test_the_page_has_the_table() -> None:
    pattern = r"^\| (\d[\w, ]*|other executors) \|.*\| ([\d.e-]+) \| ([\d.e-]+) \|.+\|$"
    rows = re.findall(pattern, PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {law: (float(outputs), float(gradients)) for law, outputs, gradients in rows} == BFLOAT16_LAWS


def tolerance(law: str, executor: str) -> Tolerance:
    return BFLOAT16_LAWS[law if executor == "native" else "other executors"]


def on_loop(case: Case, sizes: Sizes = SIZES) -> Run:
    return problem(case, sizes, "loop").run


def representable(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The same inputs, rounded to what bfloat16 has: the rounding of weights is no error of an executor."""
    return [tensor.detach().to(DTYPE).to(tensor.dtype).requires_grad_() for tensor in inputs]


@pytest.mark.sample(8)
@every_way
@every_executor
@every_case
def test_1_double_precision(case: Case, executor: str, way: Way) -> None:
    candidate = half_problem(case, SIZES, executor, way)
    inputs = representable(candidate.inputs)
    computed = compute(candidate.run, inputs)
    compare(tolerance("1", executor), computed, compute_wide(on_loop(case), inputs))


@pytest.mark.sample(10)
@native
@pytest.mark.parametrize("sizes", ROUNDED_SIZES, ids=str)
@every_case
def test_1_rounded(case: Case, sizes: Sizes) -> None:
    """The loop executor in double precision, with rounded factors, has the same numbers to those of float32."""
    run, inputs, _ = half_problem(case, sizes, "native", "autocast")
    with RoundedProducts():  # type: ignore[no-untyped-call]
        rounded = compute_wide(on_loop(case, sizes), inputs)
    computed = compute(run, inputs)
    results = [e.to(c.dtype) for c, e in zip(computed.results, rounded.results, strict=True)]
    compare(BFLOAT16_LAWS["1, rounded"], computed, rounded._replace(results=tuple(results)))


@pytest.mark.sample(4)
@native
@pytest.mark.parametrize("case", [case for case in CASES if "TwoWidths" not in case.name], ids=name_of)
def test_a_layer_in_bfloat16_rounds_what_autocast_returns(case: Case) -> None:
    """Bit by bit, for cells without buffers, which are rounded too."""
    half, single = (half_problem(case, SIZES, "native", way) for way in WAYS)
    inputs = [tensor.detach().float().requires_grad_() for tensor in half.inputs]
    for a, b in zip(compute(half.run, half.inputs), compute(single.run, inputs), strict=True):
        assert all(torch.equal(x, y.to(DTYPE)) for x, y in zip(a, b, strict=True))


@pytest.mark.sample(8)
@every_way
@every_executor
@every_stack
def test_3_sequences_in_two_parts(case: Case, executor: str, way: Way) -> None:
    candidate = half_problem(case, Sizes(T=5, B=3, D=7, H=9), executor, way)
    whole, parts = compute(candidate.run, candidate.inputs), compute(lambda *_: in_two(candidate, 2), candidate.inputs)
    compare(tolerance("3", executor), parts, whole)


@pytest.mark.sample(8)
@every_way
@every_executor
@pytest.mark.parametrize("mode", [Checkpointed(2), Truncated(2, 3)], ids=str)
@pytest.mark.parametrize("build", [elman.GRU, elman.LSTM], ids=["GRU", "LSTM"])
def test_4_gradient_modes(build: Any, mode: Mode, executor: str, way: Way) -> None:
    layer, exact = (build(3, 5, executor=name, bptt=mode) for name in (executor, "loop"))
    exact.load_state_dict(layer.bfloat16().state_dict())
    run = as_function(layer if way == "layer" else layer.float(), 0)
    inputs = representable([torch.randn(5, 3, 3).to(layer.weight_hh_l0.dtype), *layer.parameters()])
    computed = compute(under_autocast(run) if way == "autocast" else run, inputs)
    compare(tolerance("4", executor), computed, compute_wide(as_function(exact.double(), 0), inputs))


@native
@every_stack
def test_8_the_checker_rejects_one_part_in_a_thousand(case: Case) -> None:
    run, inputs, _ = half_problem(case, SMALL[0], "native", "autocast")
    right = compute(run, inputs).gradients
    for k, gradient in enumerate(right):
        wrong = compute(with_wrong(run, k, factor=1.001), inputs).gradients[k]
        with pytest.raises(AssertionError, match="gradients of"):
            within(BFLOAT16_LAWS["1, rounded"], wrong, gradient, "gradients")


@pytest.mark.sample(8)
@every_way
@every_executor
@every_stack
def test_9_ragged_batches(case: Case, executor: str, way: Way) -> None:
    candidate, lengths = half_problem(case, test_ragged.SIZES, executor, way), test_ragged.LENGTHS
    ragged = compute(partial(candidate.run, lengths=lengths), candidate.inputs)
    rows = compute(lambda *_: test_ragged.one_by_one(candidate, lengths, 1), candidate.inputs)
    compare(tolerance("9", executor), ragged, rows)


@pytest.mark.slow
@pytest.mark.parametrize("executor", [name for name in executors if name != "torch"])  # which has no trajectory
def test_13_precision_that_changes_between_calls(executor: str) -> None:
    """A layer that is converted, or called under autocast, and back, has the numbers of a call in that precision."""
    layer = elman.GRU(3, 5, executor=executor).bfloat16().float()
    x = torch.randn(3, 2, 3).bfloat16().float()
    exact = elman.GRU(3, 5, executor="loop").double()
    exact.load_state_dict(layer.state_dict())
    expected = exact(x.double())[0]
    single, half, cast = (outputs_of(layer, way, x) for way in (None, "layer", "autocast"))
    assert {outputs.dtype for outputs in half} == {DTYPE}
    for outputs in half + cast:
        within(tolerance("13", executor), outputs.double(), expected, "outputs")
    for outputs in single:
        close(outputs, single[0], "outputs")
        assert not any(torch.equal(outputs, rounded.float()) for rounded in cast)
    assert all(map(torch.equal, outputs_of(layer, None, x), single))
    assert all(map(torch.equal, outputs_of(layer, "layer", x), half))
    if executor == "native":
        for way in WAYS:
            for outputs in traced_outputs_of(layer, way, x):
                within(tolerance("13", executor), outputs.double(), expected, "outputs")


def outputs_of(layer: elman.Stack, way: Way | None, x: Tensor) -> list[Tensor]:
    """The outputs of a call, with and without gradients, in `trajectory` and in steps."""
    x = converted(layer, way, x)
    with torch.autocast("cpu", DTYPE, enabled=way == "autocast"):
        outputs = [layer(x)[0].detach()]
        with torch.no_grad():
            steps, state = [], None
            for x_t in x:
                output, state = layer.step(x_t, state)
                steps.append(output)
            return [*outputs, layer(x)[0], layer.trajectory(x).outputs, torch.stack(steps)]


def traced_outputs_of(layer: elman.Stack, way: Way, x: Tensor) -> list[Tensor]:
    """The outputs of a call, compiled and exported."""
    x = converted(layer, way, x)
    torch.compiler.reset()
    compiled: Any = torch.compile(layer, backend="aot_eager")
    with torch.autocast("cpu", DTYPE, enabled=way == "autocast"):
        return [compiled(x)[0].detach(), torch.export.export(layer, (x,)).module()(x)[0].detach()]


def converted(layer: elman.Stack, way: Way | None, x: Tensor) -> Tensor:
    """Convert the layer, and return x in its dtype."""
    dtype = DTYPE if way == "layer" else torch.float32
    layer.to(dtype)
    return x.to(dtype)
