"""Captures one step of a cell and its vector-Jacobian product as a graph of aten operations.

The step and its backward pass run once on small random inputs, and a dispatch mode below autograd records the
operations of both. Unlike `make_fx`, this does not import sympy (a second, in a process that would otherwise need
milliseconds), and the graph is functional: without in-place operations, copies and aliases.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from elman.engine import eager
from elman.engine.eager import split_output
from elman.engine.named import recording_names
from elman.engine.outputs import (
    Form,
    Output,
    State,
    as_tuple,
    flatten_output,
    output_form,
    output_state_indices,
    row_width,
)
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

# Batch sizes, by which the batch axis is told from others. The second list is for cells in which another size, such as
# the width of a slice, happens to be the batch size chosen from the first.
MARKERS = (3, 5, 7, 11, 13), (37, 41, 43, 47, 53)
PERIOD = 10007  # the random numbers of parameters repeat after so many: a prime, so that no row repeats another


@dataclass(frozen=True)
class Step:
    """A step and its vector-Jacobian product.

    The placeholders of the graph are x (B, D), the states (B, H), the parameters and buffers, a cotangent for each new
    state, and the random numbers. The graph returns four tuples: the new states, and the gradients of x (in a tuple of
    one), of the states and of the parameters. The gradient of an unused input is None. The first state is the output;
    an output that is not a state of the cell is added in front of the states, as one that the step does not read.
    """

    graph: fx.Graph
    batch: int  # B in the graph
    parameters: tuple[str, ...]
    states: int
    single: bool  # whether the cell's state is a tensor rather than a tuple
    output: Form  # of an output that is not a state of the cell; else ()
    output_states: tuple[int | None, ...]  # for each tensor of that output, the index of the state that it is, if any
    draws: tuple[RandomOp, ...]


def capture(
    cell: nn.Module,
    shapes: Mapping[str, torch.Size],
    input_size: int,
    state_size: int | tuple[int, ...],
    marker: Sequence[int] = MARKERS[0],
) -> tuple[Step, Callable[[], None]]:
    """Capture one step of a cell.

    Args:
        cell: As for `eager.run`.
        shapes: Shapes of its parameters and floating-point buffers, by name. Their values do not matter.
        input_size: D.
        state_size: The width of the state, or a tuple of widths.
        marker: Candidates for the batch size. The first that is not the size of another axis is taken, so that the
            batch axis can be told from others.

    Returns:
        The step, and a function that verifies it against the cell and raises `CannotCapture` if they differ.

    Raises:
        CannotCapture: if the step is not a fixed graph of operations on x, the states and the parameters.
    """
    with _trial_run(cell):
        trial = _TrialStep(cell, shapes, input_size, state_size, marker)
        cotangents = trial.cotangents()
        graph, draws = _record(trial.step, trial.inputs(), cotangents, trial.other_tensors.values())
    single, output_states = isinstance(state_size, int), trial.output_states
    step = Step(graph, trial.batch, tuple(shapes), len(cotangents), single, trial.output, output_states, tuple(draws))
    _name_placeholders(step)

    def check() -> None:
        with _trial_run(cell):
            verify(graph, trial.step, trial.inputs(), cotangents, bool(draws))

    return step, check


class _TrialStep:
    """A cell's step as a function of tensors alone, and random inputs for it. Takes the arguments of `capture`."""

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
        other_sizes = {input_size, *self.widths, *(size for shape in shapes.values() for size in shape)}
        self.batch = next((size for size in marker if size not in other_sizes), max(other_sizes) + 1)
        tensors = [*cell.named_parameters(), *cell.named_buffers()]
        self.other_tensors = {name: tensor.detach().clone() for name, tensor in tensors if name not in shapes}
        self._generator = torch.Generator().manual_seed(0)
        largest = max((prod(shape) for shape in shapes.values()), default=0)
        self._pool = self._randn(PERIOD).repeat(2 + largest // PERIOD)
        self.output: Form = ()
        self.output, self.output_states = self._find_output()

    def step(self, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Compute the new states from x, the states and the parameters, in the order of `Step.graph`."""
        first = int(bool(self.output))
        output, new = self._call(x, *rest[first:])
        return (flatten_output(output), *new) if first else tuple(new)

    def inputs(self) -> list[Tensor]:
        """Return random arguments for `step`."""
        # Drawing a million numbers would take longer than the rest of a capture, so the parameters share their memory.
        starts = torch.randint(PERIOD, (len(self.shapes),), generator=self._generator).tolist()
        slices = zip(starts, self.shapes.values(), strict=True)
        parameters = [self._pool[start : start + prod(shape)].view(shape) for start, shape in slices]
        return [self._randn(self.batch, self.input_size), *self.cotangents(), *parameters]

    def cotangents(self) -> list[Tensor]:
        """Return random numbers of the shapes of the new states."""
        output_widths = (row_width(self.output),) if self.output else ()
        return [self._randn(self.batch, width) for width in (*output_widths, *self.widths)]

    def _randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, dtype=torch.float64)

    def _call(self, x: Tensor, *rest: Tensor) -> tuple[Output, Sequence[Tensor]]:
        states, values = rest[: len(self.widths)], rest[len(self.widths) :]
        state: State = states[0] if self.single else tuple(states)
        tensors = self.other_tensors | dict(zip(self.shapes, values, strict=True))
        tensors = {f"cell.{name}": tensor for name, tensor in tensors.items()}
        result = eager.functional_call(_ReassignmentCheck(self.cell), tensors, x, state)
        output, state = split_output(self.cell, result, state)
        return output, as_tuple(state)

    def _find_output(self) -> tuple[Form, tuple[int | None, ...]]:
        """Return `output` and `output_states` of the step."""
        with torch.no_grad(), enable_torch_function(), DtypeCheck():
            output, new = self._call(*self.inputs())
        if output is new[0]:
            return (), ()
        form = output_form(output)
        if not row_width(form):
            raise CannotCapture("an output without columns")
        return form, output_state_indices(output, new)


class _ReassignmentCheck(nn.Module):
    """A cell whose step must not assign another tensor to a parameter or a buffer."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: State) -> object:
        before = dict(self.cell.named_buffers()) | dict(self.cell.named_parameters())
        result = self.cell(x, state)
        after = dict(self.cell.named_buffers()) | dict(self.cell.named_parameters())
        for name in {**before, **after}:
            if before.get(name) is not after.get(name):
                raise CannotCapture(f"{name!r}, a parameter or buffer that the step replaces")
        return result


def _name_placeholders(step: Step) -> None:
    states = [f"state{i}" for i in range(step.states)]
    draws = [f"draw{i}" for i in range(len(step.draws))]
    names = ("x", *states, *step.parameters, *(f"d_{state}" for state in states), *draws)
    for node, name in zip(step.graph.find_nodes(op="placeholder"), names, strict=True):
        node.name = name.replace(".", "_")


@contextmanager
def _trial_run(cell: nn.Module) -> Iterator[None]:
    """Suspend the caller's modes, undo side effects of the step, and raise `CannotCapture` in place of any error."""
    with (
        without_modes(), disable_torch_function(),
        torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False),
        torch.random.fork_rng(devices=()), torch.device("cpu"), without_caches(), without_effects(cell),
        _no_saved_tensors_hooks(),
    ):  # fmt: skip
        try:
            yield
        except CannotCapture:
            raise
        except Exception as error:
            # Raised by the cell, or by torch. If the cell has a bug, the loop executor will raise the same error.
            raise CannotCapture(f"a trial step on random inputs raised {type(error).__name__}: {error}") from error


def _no_saved_tensors_hooks() -> AbstractContextManager[object]:
    """Hide tensors saved for backward from the caller's hooks: those of torch.utils.checkpoint count them."""
    if not allows_saved_tensor_hooks():
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)


def _record(
    step: Any, inputs: Sequence[Tensor], cotangents: Sequence[Tensor], other_tensors: Iterable[Tensor]
) -> tuple[fx.Graph, list[RandomOp]]:
    """Record a step and its backward pass; `other_tensors` are those of the cell that are no inputs."""
    recorder = Recorder(inputs[0].shape[0])
    leaves = [tensor.requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    for tensor in (*leaves, *cotangents):
        recorder.add_input(tensor)
    for tensor in (*leaves, *cotangents, *other_tensors):
        recorder.protect(tensor)
    with recorder, enable_torch_function(), DataDependenceCheck(), recording_names() as named:
        new = step(*leaves)
    for name, value in named.items():
        recorder.set_name(value, name)
    old_shapes, new_shapes = [[tuple(state.shape) for state in states] for states in (cotangents, new)]
    if new_shapes != old_shapes:
        raise CannotCapture(f"the step returns states of shapes {new_shapes} for states of shapes {old_shapes}")
    if other_dtypes := [str(state.dtype) for state in new if state.dtype != inputs[0].dtype]:
        raise CannotCapture(f"the step returns a state or an output of {other_dtypes[0]}")
    new_nodes = [recorder.node_of(state) for state in new]
    gradients: Sequence[Tensor | None] = [None] * len(leaves)
    if any(state.requires_grad for state in new):
        with recorder:
            gradients = torch.autograd.grad(scalar_with_cotangents(new, cotangents), leaves, allow_unused=True)
    d_nodes = [None if gradient is None else recorder.node_of(gradient) for gradient in gradients]
    first = 1 + len(cotangents)  # parameter
    recorder.graph.output((tuple(new_nodes), (d_nodes[0],), tuple(d_nodes[1:first]), tuple(d_nodes[first:])))
    recorder.graph.eliminate_dead_code()
    if any(draw.shape[:1] != (recorder.batch,) for draw in recorder.draws):
        raise CannotCapture("random numbers that are not drawn for each row of the batch")
    return recorder.graph, [draw._replace(shape=draw.shape[1:]) for draw in recorder.draws]
