"""Law 10: the number of threads changes no number; nor do callers at once, forked children and workers of a loader."""

import multiprocessing
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from elman import cells
from elman.engine import EXECUTORS
from elman.engine.cpu import invocation as calls
from elman.engine.cpu import openmp
from tests.cases import CASES, STACKS, Case, Problem, Sizes, call, cotangents, name_of
from tests.cases import problem as problem_of
from tests.native.pairs import LAYERS, Build, Layer, agrees, forward_and_backward, on_loop, problem, same
from tests.odd import STEPS
from tests.odd import problem as odd_problem
from tests.tolerances import HALF_TOLERANCES, TOLERANCES, close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
every_layer = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
every_split = pytest.mark.parametrize("by_columns", [True, False], ids=["columns", "rows"])

SHAPES = [(9, 1, 33, 160), (9, 2, 20, 65), (7, 5, 3, 4), (5, 40, 16, 48)]
WAYS = [(1, False), (2, False), (2, True), (3, False), (3, True)]  # how many threads, and whether they share columns
PATIENCE = 20  # seconds; what takes longer hangs


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def force(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> Callable[..., list[int]]:
    """Let every call use two threads, or so many; the list grows by one with each time that they are set to work."""
    if openmp.threads() == 1:
        pytest.skip("threads cannot be shared with torch here")
    parallel, seen = openmp.parallel, list[int]()
    # What was chosen for a shape is remembered, but not here.
    monkeypatch.setattr(calls.CallLayout, "frame", calls.CallLayout.make_frame)

    def counting(function: int, data: int, count: int) -> None:
        seen.append(count)
        parallel(function, data, count)

    def forced(by_columns: bool, threads: int = 2) -> list[int]:
        monkeypatch.setattr(calls, "threads_for", lambda *_: (threads, by_columns))
        monkeypatch.setattr(openmp, "parallel", counting)
        return seen

    return forced


@pytest.mark.sample(8)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
@every_layer
def test_the_number_of_threads(build: Build, threads: int, shape: tuple[int, int, int, int], two_threads: None) -> None:
    T, B, D, H = shape
    torch.set_num_threads(threads)
    layer = build(D, H, executor="native")
    agrees(layer, *problem(layer, T, B, D))


@pytest.mark.slow
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.builds(Sizes, T=st.integers(1, 9), B=st.integers(1, 20), D=st.integers(1, 40), H=st.integers(1, 70)))
@pytest.mark.parametrize("dtype", [*TOLERANCES, *HALF_TOLERANCES], ids=str)
@pytest.mark.parametrize("case", STACKS, ids=name_of)
def test_every_way_to_share_gives_the_same_numbers(
    case: Case, dtype: torch.dtype, sizes: Sizes, force: Callable[..., list[int]]
) -> None:
    """Not nearly the same: each is one thread's, who adds in the same order."""
    the_same_numbers(lambda: problem_of(case, sizes, "native", dtype), force, WAYS)


def of_the_shelf(name: str) -> Problem:
    case = next(case for case in CASES if case.name == f"Recurrent-shelf-{name}")
    return problem_of(case, Sizes(T=2, B=3, D=1, H=17), "native", torch.float32)  # the widths of test_shelf.py


@pytest.mark.parametrize("made", [partial(of_the_shelf, name) for name in cells.REGISTRY], ids=list(cells.REGISTRY))
def test_every_cell_of_the_shelf(made: Callable[[], Problem], force: Callable[..., list[int]]) -> None:
    the_same_numbers(made, force)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*list(STEPS)[-6:], "three in a row", "a state that is not used"])
def test_odd_cells(name: str, force: Callable[..., list[int]]) -> None:
    the_same_numbers(lambda: odd_problem(name, "native", T=2, H=33), force)


@pytest.mark.sample(2)
@pytest.mark.parametrize("case", STACKS, ids=name_of)
def test_ragged_rows(case: Case, force: Callable[..., list[int]]) -> None:
    def made() -> Problem:
        run, inputs, states = problem_of(case, Sizes(T=9, B=7, D=3, H=17), "native")
        return Problem(partial(run, lengths=[9, 1, 0, 4, 9, 3, 3]), inputs, states)

    the_same_numbers(made, force, WAYS)


def the_same_numbers(
    made: Callable[[], Problem], force: Callable[..., list[int]], ways: Sequence[tuple[int, bool]] = WAYS[:3]
) -> None:
    found, options = list[list[Tensor]](), {"allow_unused": True, "materialize_grads": True}
    for threads, by_columns in ways:
        force(by_columns, threads)
        run, inputs, _ = made()
        results = [result for result in run(*inputs) if result.requires_grad]
        found.append([*results, *torch.autograd.grad(results, inputs, cotangents(results), **options)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.sample(4)
@pytest.mark.parametrize("B", [1, 3])
@every_split
@every_layer
def test_either_split(build: Build, by_columns: bool, B: int, force: Callable[..., list[int]]) -> None:
    seen = force(by_columns)
    for D, H in [(20, 65), (3, 4)]:  # of 4 columns, there are none for the second thread
        layer = build(D, H, executor="native")
        agrees(layer, *problem(layer, 6, B, D))
        with torch.inference_mode():
            x = torch.randn(6, B, D)
            close(call(layer, x)[0], call(on_loop(layer), x)[0], "outputs")
    assert set(seen) == {2}


@every_split
def test_more_rows_than_a_chunk(by_columns: bool, force: Callable[..., list[int]]) -> None:
    seen = force(by_columns)
    layer = LAYERS["GRU"](3, 4, executor="native", dtype=torch.float64)
    agrees(layer, *problem(layer, 2 * calls.CHUNK_ROWS // 5, 5, 3))
    assert set(seen) == {2}


@every_split
@pytest.mark.parametrize("shared", [True, False], ids=["one layer", "a layer each"])
def test_callers_at_once(shared: bool, by_columns: bool, force: Callable[..., list[int]]) -> None:
    seen = force(by_columns)
    layers = [LAYERS[name](20, 65, executor="native") for name in ("LSTM", "GRU", "RNN", "LSTM")]
    if shared:
        layers = layers[:1] * 4
    check_callers(layers, (6, 3, 20), calls=5)
    assert set(seen) == {2}


def test_the_first_call_of_a_plan_from_many_threads() -> None:
    """Planning and compiling happen once, whoever comes first."""
    layer = LAYERS["LSTM"](6, 11, executor="native")
    check_callers([layer, deepcopy(layer), layer, deepcopy(layer)], (3, 2, 6), calls=1)


def check_callers(layers: Sequence[Layer], shape: tuple[int, int, int], calls: int) -> None:
    """Raise AssertionError unless four callers at once, with a layer each, get the results of the loop executor."""
    problems = [problem(layer, *shape) for layer in layers]
    expected = [forward_and_backward(on_loop(layer), *p) for layer, p in zip(layers, problems, strict=True)]
    returned = from_four_threads(lambda k: [forward_and_backward(layers[k], *problems[k]) for _ in range(calls)])
    for k, results in returned.items():
        for result in results:
            same(result, expected[k])


def from_four_threads(work: Callable[[int], Any]) -> dict[int, Any]:
    """Return the results of four concurrent threads, called with 0 to 3."""
    found, together = dict[int, Any](), threading.Barrier(4)

    def call_together(k: int) -> None:
        together.wait(PATIENCE)
        found[k] = work(k)

    callers = [threading.Thread(target=call_together, args=(k,), daemon=True) for k in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert set(found) == set(range(4))
    return found


def test_a_forked_child(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> None:
    monkeypatch.setattr(calls.CallLayout, "frame", calls.CallLayout.make_frame)
    # As many threads as there are. All is small: where it is large, torch fills fresh memory with poison on its own
    # threads, which the child does not have.
    monkeypatch.setattr(calls, "threads_for", lambda *given: (given[-1], given[-1] > 1))
    check_forked_child(LAYERS["LSTM"](4, 12, executor="native"), 4)


def check_forked_child(layer: Layer, D: int) -> None:
    """Raise AssertionError unless a layer that has run before a fork gives the same results after it."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    x, states = problem(layer, 9, 2, D)
    expected = forward_and_backward(on_loop(layer), x, states)
    same(forward_and_backward(layer, x, states), expected)  # the parent's two threads have worked before the fork

    def child(sender: Connection) -> None:
        sender.send([[tensor.tolist() for tensor in tensors] for tensors in forward_and_backward(layer, x, states)])

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(sender,))
    with warnings.catch_warnings():
        # Python 3.12 and later warn of any fork while threads live, and torch's always do.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    try:
        assert receiver.poll(PATIENCE), "the child hangs"
        results, gradients = (tuple(map(torch.tensor, tensors)) for tensors in receiver.recv())
    finally:
        process.kill()
        process.join()
    same((results, gradients), expected)


class Transformed(Dataset[tuple[Tensor, Tensor]]):
    """Every item is the output and the gradient of a layer, worked out where the item is asked for."""

    def __init__(self, executor: str) -> None:
        torch.manual_seed(0)
        self.layer = LAYERS["GRU"](5, 40, executor=executor)
        self.data = torch.randn(4, 6, 2, 5)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = self.data[index].requires_grad_()
        outputs = call(self.layer, x)[0]
        (gradient,) = torch.autograd.grad(outputs.square().sum(), [x])
        return outputs.detach(), gradient


# On one core, torch finds two workers too many; Python 3.12 warns of any fork while threads live.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning", "ignore::DeprecationWarning")
def test_workers_of_a_loader(two_threads: None) -> None:
    native, loop = Transformed("native"), Transformed("loop")
    assert native[0][0].shape == (6, 2, 40)  # the parent has used it before
    loaded = list(DataLoader(native, batch_size=None, num_workers=2, timeout=PATIENCE))
    assert len(loaded) == len(loop)
    for (outputs, gradient), (right, right_gradient) in zip(loaded, (loop[k] for k in range(len(loop))), strict=True):
        close(outputs, right, "outputs")
        close(gradient, right_gradient, "gradients")


OTHER = """
import ctypes
import torch
import sklearn.neighbors  # loads an OpenMP library of its own
import elman
from elman.engine.cpu import openmp

def file_of(function):
    address = ctypes.cast(function, ctypes.c_void_p).value
    for line in open("/proc/self/maps"):
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            return line.split()[-1]

assert "scikit_learn" not in file_of(openmp.library().GOMP_parallel), file_of(openmp.library().GOMP_parallel)
assert file_of(openmp.library().GOMP_parallel) == file_of(openmp.library().omp_get_thread_num)
layer = elman.GRU(64, 96, executor="native")
x = torch.randn(20, 32, 64)
torch.set_num_threads(2)
before = layer(x)[0]
torch.set_num_threads(1)
assert torch.equal(before, layer(x)[0])
"""


@pytest.mark.slow
def test_the_threads_are_torchs_where_another_library_has_some_too() -> None:
    """Two pools of threads that wait by spinning take the cores from each other."""
    if openmp.threads() == 1 and openmp.library() is None:
        pytest.skip("threads cannot be shared with torch here")
    found = subprocess.run([sys.executable, "-c", OTHER], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
