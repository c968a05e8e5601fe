"""Laws 1 to 6, 9 and 10 for the triton executor; `test_laws.py` runs this file in Triton's interpreter.

On the loop and the native executor, the files of `tests/contract` test the same with more sizes.
"""

import copy
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from triton.runtime.errors import OutOfResources
from triton.runtime.interpreter import InterpretedFunction

import elman
from elman import cells, flow
from elman.bptt import Checkpointed, Mode, Truncated
from elman.engine import EXECUTORS, CellSpec, choose
from elman.engine.gpu import triton_plan
from elman.engine.gpu.codegen import INTEGERS, generate
from elman.engine.gpu.step_graph import MAX_GRAPHS, StepGraphs
from tests import odd
from tests.cases import CASES, Case, Problem, Sizes, as_function, call, cotangents, gradients, name_of, problem
from tests.contract import test_compiled, test_draws, test_operations, test_oracle, test_ragged
from tests.contract import test_split as split_law
from tests.native import test_threads
from tests.native.pairs import Layer, forward_and_backward, on_loop
from tests.tolerances import all_close, gradcheck

SIZES = Sizes(T=3, B=2, D=3, H=5)
# More rows than a tile has, and more columns: a full tile and a rest of each.
LARGE = Sizes(T=2, B=18, D=5, H=35)
SHELF = [case for case in CASES if "shelf" in case.name]
BUILT_IN = [case for case in CASES if case.name in ("RNN-tanh", "RNN-relu", "GRU", "LSTM")]


@pytest.fixture(params=["whole", "step"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The form in which loops run."""
    name: str = request.param
    for limit in ("MAX_WHOLE_BYTES", "MAX_WHOLE_BYTES_RAGGED"):
        monkeypatch.setattr(triton_plan, limit, 0 if name == "step" else 1 << 40)
    return name


def agree(made: Callable[[str], Problem], **options: Any) -> None:
    """Raise AssertionError unless all results, with and without gradients, and these are the loop executor's."""
    found = []
    for executor in ("triton", "loop"):
        torch.manual_seed(0)
        run, inputs, _ = made(executor)
        results = run(*inputs, **options)
        asked = torch.autograd.grad(results, inputs, cotangents(results), allow_unused=True)
        with torch.no_grad():
            found.append(((*results, *run(*inputs, **options)), asked))
    all_close(found[0][0], found[1][0], "outputs")
    pairs = list(zip(found[0][1], found[1][1], strict=True))
    assert [a is None for a, _ in pairs] == [b is None for _, b in pairs]
    all_close([a for a, _ in pairs if a is not None], [b for _, b in pairs if b is not None], "gradients")


# Law 1, for the cells that have an oracle, and agreement with the loop for all.


@pytest.mark.sample(4)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", [case for case in CASES if case.oracle], ids=name_of)
def test_outputs_and_gradients(case: Case, dtype: torch.dtype) -> None:
    test_oracle.check(case, "triton", dtype, SIZES, bias=True)


@pytest.mark.sample(2)
@pytest.mark.parametrize("case", SHELF, ids=name_of)
def test_the_shelf(case: Case) -> None:
    agree(lambda executor: problem(case, SIZES, executor, torch.float32))


@pytest.mark.sample(2)
@pytest.mark.parametrize("case", BUILT_IN, ids=name_of)
def test_several_tiles(case: Case, form: str) -> None:
    agree(lambda executor: problem(case, LARGE, executor, torch.float32))


@pytest.mark.sample(4)
@odd.every_odd_cell
def test_odd_cells(name: str, form: str) -> None:
    agree(lambda executor: odd.problem(name, executor, T=3))


@pytest.mark.parametrize("name", test_operations.OPERATIONS)
def test_operations_of_cells(name: str) -> None:
    operation = test_operations.OPERATIONS[name]
    results, found = test_operations.found(operation, "triton", torch.float64)
    expected = test_operations.found(operation, "loop", torch.float64)
    all_close(results, expected[0], "outputs")
    all_close(found, expected[1], "gradients")


@pytest.mark.parametrize("name", test_draws.CELLS)
def test_the_same_random_numbers(name: str) -> None:
    found = []
    for executor in ("triton", "loop"):
        torch.manual_seed(0)
        layer = elman.Recurrent(test_draws.CELLS[name](), executor=executor).double()
        torch.manual_seed(1)
        found.append(forward_and_backward(layer, torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)))
    all_close(found[0][0], found[1][0], "outputs")
    all_close(found[0][1], found[1][1], "gradients")


@pytest.mark.sample(2)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype: torch.dtype, form: str) -> None:
    layer = elman.LSTM(3, 20, executor="triton", dtype=dtype)
    single, x = on_loop(layer).float(), torch.randn(4, 2, 3, dtype=dtype)
    x, exact = (x.detach().to(d).requires_grad_() for d in (dtype, torch.float32))
    results, expected = call(layer, x), call(single, exact)
    received = cotangents([value.float() for value in results])
    found = torch.autograd.grad(results, [x, *layer.parameters()], [d.to(dtype) for d in received])
    right = torch.autograd.grad(expected, [exact, *single.parameters()], received)
    for a, b in zip((*results, *found), (*expected, *right), strict=True):
        assert a.dtype == dtype
        assert (a.float() - b).abs().max() <= 4 * torch.finfo(dtype).eps * b.abs().max()


def test_autocast_computes_in_its_dtype() -> None:
    layer, x = elman.LSTM(3, 5, executor="triton"), torch.randn(4, 2, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = layer(x)
    assert outputs.dtype == torch.bfloat16
    outputs.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in (x, *layer.parameters()))


# Laws 2 and 3. In laws 3, 4 and 9, parts differ from the whole by roundings, since those of torch's products before and
# after the loop depend on the number of rows. Those of the kernels do not: without such products, bits are equal.


@pytest.mark.parametrize("name", ["RNN-tanh", "Recurrent-TwoWidths"])
def test_finite_differences(name: str) -> None:
    run, inputs, _ = problem(next(c for c in CASES if c.name == name), Sizes(T=2, B=1, D=1, H=2), "triton")
    gradcheck(run, inputs)


@pytest.mark.sample(2)
@pytest.mark.parametrize("case", [*BUILT_IN, *SHELF], ids=name_of)
def test_finite_differences_in_one_direction(case: Case) -> None:
    run, inputs, _ = problem(case, Sizes(T=2, B=3, D=2, H=5), "triton")

    def joined(values: Tensor) -> Tensor:
        parts = values.split([tensor.numel() for tensor in inputs])
        results = run(*(part.view_as(tensor) for part, tensor in zip(parts, inputs, strict=True)))
        return torch.cat([result.flatten() for result in results])

    values = torch.cat([tensor.detach().flatten() for tensor in inputs])
    gradcheck(joined, [values.requires_grad_()], fast_mode=True, check_undefined_grad=False)


@pytest.mark.sample(2)
@pytest.mark.parametrize("case", BUILT_IN, ids=name_of)
def test_split(case: Case, form: str) -> None:
    split_law.check(problem(case, SIZES, "triton"), 2)


@pytest.mark.sample(1)
@pytest.mark.parametrize("lengths", [None, [2, 4, 0, 3]], ids=str)
def test_a_kernel_computes_every_row_alike(lengths: list[int] | None, form: str) -> None:
    layer = elman.Recurrent(
        lambda x, h, w: torch.tanh(h @ w + x), 5, executor="triton", parameters={"w": torch.randn(5, 5)}
    ).double()
    x, h = torch.randn(2, 4, 4, 5, dtype=torch.float64, requires_grad=True).unbind()
    of_kernel = Problem(as_function(layer, 1), (x, h[0], *layer.parameters()), 1)
    parts = test_ragged.one_by_one(of_kernel, lengths, 0) if lengths else split_law.in_two(of_kernel, 2)
    whole = of_kernel.run(*of_kernel.inputs, lengths=lengths)
    assert all(map(torch.equal, parts, whole))
    assert all(map(torch.equal, gradients(parts, of_kernel.inputs)[:2], gradients(whole, of_kernel.inputs)[:2]))


def test_a_gradient_of_a_gradient() -> None:
    run, inputs, _ = problem(CASES[0], Sizes(T=2, B=1, D=1, H=2), "triton")
    assert torch.autograd.gradgradcheck(run, inputs)


# Law 4.


@pytest.mark.sample(2)
@pytest.mark.parametrize("mode", [Checkpointed(2), Truncated(2, 3)], ids=repr)
@pytest.mark.parametrize("lengths", [None, [5, 3, 0]], ids=str)
def test_gradient_modes(mode: Mode, lengths: list[int] | None) -> None:
    def made(executor: str) -> Problem:
        layer = elman.GRU(3, 5, executor=executor, bptt=mode).double()
        x = torch.randn(5, 3, 3, dtype=torch.float64, requires_grad=True)
        return Problem(as_function(layer, 0), (x, *layer.parameters()), 0)

    agree(made, lengths=lengths)


# Law 5: it runs or raises.


class Cumulative(nn.Module):
    """With an operation that is in no table."""

    state_size = 4

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.cumprod(h + x, -1)


def test_what_it_refuses() -> None:
    x = torch.randn(3, 2, 4)
    with pytest.raises(RuntimeError, match=r"cannot run on the triton executor: aten\.cumprod"):
        elman.Recurrent(Cumulative(), executor="triton")(x)
    with pytest.raises(RuntimeError, match="under Triton's interpreter, got a tensor on meta"):
        elman.GRU(4, 5, executor="triton", device="meta")(x.to("meta"))
    with pytest.raises(RuntimeError, match=r"float32, float64, bfloat16 and float16, .*, got .*complex64"):
        elman.GRU(4, 5, executor="triton", dtype=torch.complex64)(x.to(torch.complex64))


def test_offsets_of_more_than_32_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.engine.gpu.backend.MAX_OFFSET", 16 * 21 - 1)
    x = torch.randn(3, 2, 4)
    with pytest.raises(RuntimeError, match="a matrix of 20 x 60 numbers; use executor='auto'"):
        elman.GRU(4, 20, executor="triton")(x)
    with pytest.raises(RuntimeError, match="rows of 24 numbers; use executor='auto'"):
        elman.Recurrent(lambda x, h: h + x, 24, executor="triton")(torch.randn(3, 2, 24))


def test_a_kernel_that_needs_more_than_the_gpu_has(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OutOfResources(131072, 101376, "shared memory")

    layer, x = elman.GRU(4, 5, executor="triton"), torch.randn(3, 2, 4)
    outputs, _ = layer(x)
    monkeypatch.setattr(InterpretedFunction, "run", refuse)
    line = r"kernel {}\w* of triton-\w+-\w+\.py needs 131072 bytes of shared memory, the GPU has 101376; use executor"
    with pytest.raises(RuntimeError, match=line.format("forward")):
        layer(x)
    with pytest.raises(RuntimeError, match=line.format("backward")):
        outputs.sum().backward()


def test_auto_leaves_the_cpu_to_others() -> None:
    cell = nn.GRUCell(3, 5)
    executor, reason = choose("auto", [CellSpec(cell, dict(cell.named_parameters()), 3, 5)])
    assert (executor.name, reason) == (next(iter(EXECUTORS)), "")
    assert list(EXECUTORS)[-2:] == ["triton", "loop"]


def test_describe_names_the_kernels() -> None:
    description = str(elman.describe(elman.GRU(3, 5, executor="triton"), torch.zeros(7, 2, 3)))
    (line,) = (line for line in description.splitlines() if "kernels: " in line)
    text = Path(line.partition("kernels: ")[2]).read_text(encoding="utf-8")
    assert "tl.dot" not in text
    assert "functions.dot" in text
    assert "product with weight_hh" in text


# Law 6: nothing is generated twice, and no kernel depends on T or B.


@pytest.mark.slow
def test_nothing_is_generated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    generated = []

    def counted(*arguments: Any) -> Any:
        generated.append(arguments)
        return generate(*arguments)

    monkeypatch.setattr(triton_plan, "generate", counted)
    for T, B in ((3, 2), (1, 1), (4, 17)):
        layer = elman.GRU(3, 23, executor="triton")
        layer(torch.randn(T, B, 3))[0].sum().backward()
        with torch.no_grad():
            layer(torch.randn(T, B, 3))
    assert len(generated) == 1


def test_numbers_are_not_specialized() -> None:
    cell = cells.GRU(3, 5)
    compiled = choose("triton", [CellSpec(cell, dict(cell.named_parameters()), 3, 5)])[0]
    lines = list(compiled.describe(CellSpec(cell, dict(cell.named_parameters()), 3, 5), None))
    text = Path(lines[-1].partition("kernels: ")[2]).read_text(encoding="utf-8")
    signatures = text.split("@triton.jit(do_not_specialize=[")[1:]
    assert len(signatures) >= 3
    for signature in signatures:
        listed, _, rest = signature.partition("])\ndef ")
        head = rest.partition("\n")[0]
        integers = [name for name in INTEGERS if f", {name}," in head]
        assert {name.strip("' ") for name in listed.split(",")} == set(integers)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* is deprecated")  # in torch's inductor
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("kind", ["plain", "lengths", "packed"])
@pytest.mark.parametrize("name", test_compiled.layers())
def test_one_graph_of_torch_serves_every_length(name: str, kind: str, backend: str) -> None:
    torch.compiler.reset()
    layer = test_compiled.layers("triton")[name].eval()
    assert test_compiled.count_graphs(layer, kind, [(5, 4), (4, 6)], backend, dynamic=True) == 1


# Law 9.


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", ["RNN-tanh", "GRU", "LSTM", "Recurrent-TwoWidths", "Recurrent-shelf-layer_norm_lstm"])
def test_ragged_is_row_by_row(name: str, form: str) -> None:
    case = next(case for case in CASES if case.name == name)
    test_ragged.check(problem(case, Sizes(T=4, B=4, D=3, H=5), "triton"), int("Recurrent" not in name), [2, 4, 0, 3])


@pytest.mark.slow
@pytest.mark.parametrize("case", SHELF, ids=name_of)
def test_the_shelf_ragged(case: Case) -> None:
    agree(lambda executor: problem(case, Sizes(T=3, B=3, D=3, H=5), executor, torch.float32), lengths=[3, 0, 2])


# What observers see.


@pytest.mark.sample(1)
@pytest.mark.parametrize("lengths", [None, [4, 2, 0]], ids=str)
def test_observed_gradients(lengths: list[int] | None) -> None:
    found = []
    for executor in ("triton", "loop"):
        torch.manual_seed(0)
        layer = elman.LSTM(3, 5, executor=executor).double()
        outputs, _ = layer(torch.randn(4, 3, 3, dtype=torch.float64), lengths=lengths)
        with flow.record(layer) as recorded:
            outputs.square().sum().backward()
        found.append(list(recorded.state_gradients.values()))
    all_close(found[0], found[1], "gradients")


# Law 10. The interpreter runs one launch at a time; all else is several threads'.


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["one layer", "a layer each"])
def test_callers_at_once(shared: bool) -> None:
    layers: list[Layer] = [elman.GRU(4, 7, executor="triton"), elman.RNN(4, 7, executor="triton")]
    layers = layers[:1] * 4 if shared else [*layers, *copy.deepcopy(layers)]
    test_threads.check_callers(layers, (3, 2, 4), calls=2)


@pytest.mark.slow
def test_a_forked_child() -> None:
    test_threads.check_forked_child(elman.GRU(4, 7, executor="triton"), 4)


# The graphs of all steps, with pretended ones: there is no GPU here.


class PretendedGraph:
    """Records what is launched while it is captured."""

    capturing = threading.local()

    def __init__(self) -> None:
        self.launches: list[Callable[[], None]] = []

    def replay(self) -> None:
        for launch in self.launches:
            launch()
            time.sleep(1e-3)  # other threads go on


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def capture(graph: PretendedGraph, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        PretendedGraph.capturing.graph = graph
        yield
        del PretendedGraph.capturing.graph

    monkeypatch.setattr(torch.cuda, "CUDAGraph", PretendedGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    stream = SimpleNamespace(synchronize=lambda: None, cuda_stream=0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: stream)


def launch_twice(memory: Mapping[str, Tensor]) -> None:
    """Launch a kernel that reads x, and reads and writes the state."""
    for _ in range(2):
        kernel = functools.partial(lambda state, x: state.mul_(2).add_(x), memory["state"], memory["x"])
        if graph := getattr(PretendedGraph.capturing, "graph", None):
            graph.launches.append(kernel)
        else:
            kernel()


def test_a_graph_works_on_the_memory_of_each_call(pretended: None) -> None:
    graphs = StepGraphs()
    on_gpu: Any = SimpleNamespace(is_cuda=True, device="cuda:0")

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for k in range(30):
            size = 1 + k % (MAX_GRAPHS + 1)
            x, state = torch.randn(2, size, generator=generator)
            expected = 4 * state + 3 * x
            graphs.run(size, launch_twice, {"begins": on_gpu, "x": x, "state": state}, ["x"], ["state"])
            torch.testing.assert_close(state, expected)

    test_threads.from_four_threads(work)
    assert len(graphs._graphs) == MAX_GRAPHS


def test_a_launch_that_failed_is_not_captured(pretended: None) -> None:
    def refuse(_: Mapping[str, Tensor]) -> None:
        raise RuntimeError("needs more shared memory")

    graphs, on_gpu = StepGraphs(), SimpleNamespace(is_cuda=True, device="cuda:0")
    memory: Any = {"begins": on_gpu}
    for _ in range(2):
        with pytest.raises(RuntimeError, match="needs more shared memory"):
            graphs.run("forward", refuse, memory, [], [])
