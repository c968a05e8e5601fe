"""Captures one step of a cell and its vector-Jacobian product as a graph of aten operations.

The step is run once on small random numbers, and what torch does is written down as it is dispatched: below autograd,
so the backward step is seen as well. Against `make_fx` this saves importing sympy (a second, in a process that would
else need milliseconds), and views, copies and operations in place never enter the graph.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from elman.engine import eager
from elman.engine.eager import as_tuple, split_output
from elman.engine.named import recording_names
from elman.engine.outputs import Form, Output, State, flatten_output, output_form, output_state_indices, row_width
from elman.engine.torch_private import (
    allows_saved_tensor_hooks,
    disable_torch_function,
    enable_torch_function,
    without_modes,
)
from elman.engine.trace.cotangents import scalar_with_cotangents
from elman.engine.trace.dtypes import DtypeCheck
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.random_ops import RandomOp
from elman.engine.trace.recorder import Recorder
from elman.engine.trace.side_effects import DataDependenceCheck, without_caches, without_effects
from elman.engine.trace.verify import verify

# Sizes to tell the batch by; others, for cells with slices, say, whose width happens to be one of the first.
MARKERS = (3, 5, 7, 11, 13), (37, 41, 43, 47, 53)
PERIOD = 10007  # random numbers, after which they come again: a prime, so that no row repeats another


@dataclass(frozen=True)
class Step:
    """A step and its vector-Jacobian product.

    The graph's placeholders are x (B, D), the states (B, H), the parameters and buffers, a cotangent for each new state
    and what is drawn. Its output is four tuples: the new states, and the gradients of x (in a tuple of one), of the
    states and of the parameters; a gradient is None where nothing reaches it. `batch` stands for B wherever sizes are
    written out. The first state is the output; one that is no state of the cell's stands there as one that is not read.
    """

    graph: fx.Graph
    batch: int
    parameters: tuple[str, ...]
    states: int
    single: bool  # the cell's state is a tensor, and not a tuple of one
    output: Form  # of an output that is no state of the cell's, or ()
    shown: tuple[int | None, ...]  # of each of its parts, the state of the cell's that stands there
    draws: tuple[RandomOp, ...]


def capture(
    cell: nn.Module,
    shapes: Mapping[str, torch.Size],
    input_size: int,
    state_size: int | tuple[int, ...],
    marker: Sequence[int] = MARKERS[0],
) -> tuple[Step, Callable[[], None]]:
    """Capture one step of a cell; and a function that checks it, or raises CannotCapture as well.

    Args:
        cell: as `loop.run` takes it.
        shapes: of its parameters and buffers but those of whole numbers, by name; their values do not matter.
        input_size: D.
        state_size: the width of its state, or a tuple of widths.
        marker: batch sizes, of which the first that is no width is taken: by it the batch is told from widths.

    Raises:
        CannotCapture: if the step is no fixed graph of operations on x, the states and the parameters.
    """
    with _on_random_numbers(cell):
        tried = _Attempt(cell, shapes, input_size, state_size, marker)
        cotangents = tried.cotangents()
        graph, draws = _recorded(tried.step, tried.inputs(), cotangents, tried.others.values())
    single = isinstance(state_size, int)
    found = Step(graph, tried.batch, tuple(shapes), len(cotangents), single, tried.output, tried.shown, tuple(draws))
    _named(found)

    def checked() -> None:
        with _on_random_numbers(cell):
            verify(graph, tried.step, tried.inputs(), cotangents, bool(draws))

    return found, checked


class _Attempt:
    """A cell's step as a function of tensors alone, and random numbers to give it. Arguments as for `capture`."""

    def __init__(
        self,
        cell: nn.Module,
        shapes: Mapping[str, torch.Size],
        input_size: int,
        state_size: int | tuple[int, ...],
        marker: Sequence[int],
    ) -> None:
        self.cell, self.shapes, self.single = cell, shapes, isinstance(state_size, int)
        self.input_size, self.widths = input_size, as_tuple(state_size)
        taken = {input_size, *self.widths, *(size for shape in shapes.values() for size in shape)}
        self.batch = next(size for size in marker if size not in taken)
        named = [*cell.named_parameters(), *cell.named_buffers()]
        self.others = {name: value.detach().clone() for name, value in named if name not in shapes}
        self._generator = torch.Generator().manual_seed(0)
        largest = max((prod(shape) for shape in shapes.values()), default=0)
        self._pool = self._drawn(PERIOD).repeat(2 + largest // PERIOD)
        self.output: Form = ()
        self.output, self.shown = self._output()

    def step(self, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """x, the states and the parameters to the new states; an output of its own stands before the states."""
        first = int(bool(self.output))
        output, new = self._called(x, *rest[first:])
        return (flatten_output(output), *new) if first else tuple(new)

    def inputs(self) -> list[Tensor]:
        """Numbers for a step."""
        # Drawing a million numbers takes longer than all else here: the parameters overlap in one piece of memory.
        begins = torch.randint(PERIOD, (len(self.shapes),), generator=self._generator).tolist()
        pieces = zip(begins, self.shapes.values(), strict=True)
        parameters = [self._pool[begin : begin + prod(shape)].view(shape) for begin, shape in pieces]
        return [self._drawn(self.batch, self.input_size), *self.cotangents(), *parameters]

    def cotangents(self) -> list[Tensor]:
        """Numbers for what a step makes."""
        own = (row_width(self.output),) if self.output else ()
        return [self._drawn(self.batch, width) for width in (*own, *self.widths)]

    def _drawn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, dtype=torch.float64)

    def _called(self, x: Tensor, *rest: Tensor) -> tuple[Output, Sequence[Tensor]]:
        states, values = rest[: len(self.widths)], rest[len(self.widths) :]
        state: State = states[0] if self.single else tuple(states)
        named = self.others | dict(zip(self.shapes, values, strict=True))
        result = eager.functional_call(
            _Fixed(self.cell), {f"cell.{name}": value for name, value in named.items()}, x, state
        )
        output, state = split_output(self.cell, result, state)
        return output, as_tuple(state)

    def _output(self) -> tuple[Form, tuple[int | None, ...]]:
        """Of an output that is not the first state, its form and the states in it; or nothing."""
        with torch.no_grad(), enable_torch_function(), DtypeCheck():
            output, new = self._called(*self.inputs())
        if output is new[0]:
            return (), ()
        found = output_form(output)
        if not row_width(found):
            raise CannotCapture("an output without columns")
        return found, output_state_indices(output, new)


class _Fixed(nn.Module):
    """A cell that must not put another tensor in the place of a parameter or a buffer."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: State) -> object:
        before = dict(self.cell.named_buffers()) | dict(self.cell.named_parameters())
        result = self.cell(x, state)
        after = dict(self.cell.named_buffers()) | dict(self.cell.named_parameters())
        for name in {**before, **after}:
            if before.get(name) is not after.get(name):
                raise CannotCapture(f"{name!r}, a parameter or a buffer which the step sets anew")
        return result


def _named(step: Step) -> None:
    states = [f"state{i}" for i in range(step.states)]
    draws = [f"draw{i}" for i in range(len(step.draws))]
    names = ("x", *states, *step.parameters, *(f"d_{state}" for state in states), *draws)
    for node, name in zip(step.graph.find_nodes(op="placeholder"), names, strict=True):
        node.name = name.replace(".", "_")


@contextmanager
def _on_random_numbers(cell: nn.Module) -> Iterator[None]:
    """Whatever the caller's modes are, the step runs in none of them, and leaves nothing behind.

    Raises:
        CannotCapture: in the place of every error.
    """
    ordinary = torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False)
    with (
        without_modes(), disable_torch_function(), ordinary[0], ordinary[1], ordinary[2],
        torch.random.fork_rng(devices=()), torch.device("cpu"), without_caches(), without_effects(cell),
        _no_saved_tensors_hooks(),
    ):  # fmt: skip
        try:
            yield
        except CannotCapture:
            raise
        except Exception as error:
            # The cell's own, or torch's about it. Where it is a mistake of the cell, the loop executor will tell.
            raise CannotCapture(f"a step on random numbers ended with {type(error).__name__}: {error}") from error


def _no_saved_tensors_hooks() -> AbstractContextManager[object]:
    """A context in which no hook of the caller sees the tensors that are saved: torch.utils.checkpoint counts them."""
    if not allows_saved_tensor_hooks():
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)


def _recorded(
    step: Any, inputs: Sequence[Tensor], cotangents: Sequence[Tensor], others: Iterable[Tensor]
) -> tuple[fx.Graph, list[RandomOp]]:
    recorder = Recorder(inputs[0].shape[0])
    leaves = [tensor.requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    for tensor in (*leaves, *cotangents):
        recorder.input(tensor)
    for tensor in (*leaves, *cotangents, *others):
        recorder.given(tensor)
    with recorder, enable_torch_function(), DataDependenceCheck(), recording_names() as named:
        new = step(*leaves)
    for name, value in named.items():
        recorder.describe(value, name)
    if [tuple(state.shape) for state in new] != [tuple(c.shape) for c in cotangents]:
        shapes = [tuple(state.shape) for state in new]
        raise CannotCapture(f"the step turns states of shapes {[tuple(c.shape) for c in cotangents]} into {shapes}")
    if other := [str(state.dtype) for state in new if state.dtype != inputs[0].dtype]:
        raise CannotCapture(f"the step makes a state or an output of {other[0]}")
    outputs = [recorder.named(state) for state in new]
    gradients: Sequence[Tensor | None] = [None] * len(leaves)
    if any(state.requires_grad for state in new):
        with recorder:
            gradients = torch.autograd.grad(scalar_with_cotangents(new, cotangents), leaves, allow_unused=True)
    found = [None if g is None else recorder.named(g) for g in gradients]
    count, batch = len(cotangents), inputs[0].shape[0]
    recorder.graph.output((tuple(outputs), (found[0],), tuple(found[1 : 1 + count]), tuple(found[1 + count :])))
    recorder.graph.eliminate_dead_code()
    if any(draw.shape[:1] != (batch,) for draw in recorder.draws):
        raise CannotCapture("random numbers that are not drawn for each row of the batch")
    return recorder.graph, [draw._replace(shape=draw.shape[1:]) for draw in recorder.draws]
