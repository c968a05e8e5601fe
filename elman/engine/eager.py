"""Reference executor: calls the cell once per step in plain PyTorch. Slow, and the definition of correct."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from elman.engine.executor import Executor
from elman.engine.inputs import CellSpec, Inputs, split_by_step
from elman.engine.observe.autograd_hooks import GradientRecorder
from elman.engine.observe.events import record_call
from elman.engine.outputs import Output, State, as_tuple, output_state_indices, stack_outputs
from elman.engine.outputs import output_tensors as outputs_of


def split_output(cell: nn.Module, result: object, state: State) -> tuple[Output, State]:
    """Split what a step has returned, the state or `(output, state)`; without an output, the first state is the output.

    Args:
        cell: for the message.
        result: of the step.
        state: passed to the step; the new state must have the same form.

    Raises:
        TypeError: for a result of another form.
    """
    if isinstance(state, Tensor):
        match result:
            case Tensor():
                return result, result
            case (output, Tensor() as new) if _is_output(output):
                return output, new
    else:
        match result:
            case (output, (tuple() | list()) as news) if _is_output(output) and _tensors(news, len(state)):
                return output, tuple(news)
            case tuple() | list() if _tensors(result, len(state)):
                return result[0], tuple(result)
    form = "a tensor" if isinstance(state, Tensor) else f"a tuple of {len(state)} tensors"
    expected = f"the step to return the state, {form}, or (output, state)"
    raise TypeError(f"{cell._get_name()}: expected {expected}, got {_form(result)}")


def _tensors(values: Sequence[object], count: int) -> bool:
    return len(values) == count and all(isinstance(value, Tensor) for value in values)


def _is_output(value: object) -> TypeGuard[Output]:
    if isinstance(value, dict) and value:
        return all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    return isinstance(value, Tensor)


def _form(result: object) -> str:
    if isinstance(result, tuple | list):
        return f"({', '.join(map(_form, result))})"
    return "a tensor" if isinstance(result, Tensor) else "None" if result is None else type(result).__name__


def _check_shapes(cell: nn.Module, before: State, after: State) -> None:
    for old, new in zip(as_tuple(before), as_tuple(after), strict=True):
        if old.shape != new.shape:
            expected, got = tuple(old.shape), tuple(new.shape)
            raise ValueError(
                f"{cell._get_name()}: expected the step to return a state of the same shape, {expected}, got {got}"
            )


class _Unrolled(nn.Module):
    def __init__(self, cell: nn.Module, recorder: GradientRecorder | None) -> None:
        super().__init__()
        self.cell, self.recorder = cell, recorder
        self.replaced_buffers: dict[str, Tensor] = {}  # by name, buffers that steps have reassigned

    def forward(self, x: Tensor, state: State, sizes: Tensor | None) -> tuple[Output, State]:
        outputs: list[Output] = []
        ended: list[tuple[Tensor, ...]] = []  # final states of sequences that have ended, the longest last
        buffers = dict(self.cell.named_buffers())
        for x_t in split_by_step(x, sizes):
            if sizes is not None and len(x_t) < len(as_tuple(state)[0]):
                ended.append(tuple(s[len(x_t) :] for s in as_tuple(state)))
                state = _like(state, [s[: len(x_t)] for s in as_tuple(state)])
            output, new = split_output(self.cell, self.cell(x_t, state), state)
            if not outputs:
                _check_shapes(self.cell, state, new)
            state = new
            if self.recorder is not None:
                state = _like(new, self.recorder.step(as_tuple(new)))
                output = _with_states(output, output_state_indices(output, as_tuple(new)), as_tuple(state))
            outputs.append(output)
        self.replaced_buffers = {name: b for name, b in self.cell.named_buffers() if b is not buffers.get(name)}
        if ended:
            state = _like(state, [torch.cat(parts) for parts in zip(as_tuple(state), *reversed(ended), strict=True)])
        result = stack_outputs(outputs, packed=sizes is not None)
        if self.recorder is not None:
            state = _like(state, self.recorder.end(outputs_of(result), as_tuple(state)))
        return result, state


def _like(state: State, states: Sequence[Tensor]) -> State:
    return states[0] if isinstance(state, Tensor) else tuple(states)


def _with_states(output: Output, indices: Sequence[int | None], states: Sequence[Tensor]) -> Output:
    """The output with other states in place of those that it returns."""
    values = [value if i is None else states[i] for value, i in zip(outputs_of(output), indices, strict=True)]
    return values[0] if isinstance(output, Tensor) else dict(zip(output, values, strict=True))


def functional_call(module: nn.Module, parameters: Mapping[str, Tensor], *args: object) -> object:
    """Call a module with other values of its parameters and buffers.

    Args:
        module: to call.
        parameters: by the names of `named_parameters` and `named_buffers`; others keep the module's own values.
        args: of the call.
    """
    # Tied parameters are replaced under every name here: `tie_weights=True` would leave the replacements behind in a
    # submodule that has two names.
    replacements: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        first_names: dict[Tensor, str] = {}
        for prefix, submodule in module.named_modules():
            for name, tensor in getattr(submodule, kind).items():
                path = f"{prefix}.{name}" if prefix else name
                if tensor is not None and (value := parameters.get(first_names.setdefault(tensor, path))) is not None:
                    replacements[path] = value
    return torch.func.functional_call(module, replacements, args, tie_weights=False)


def run_step(cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State) -> tuple[Output, State]:
    """Run one step with other values of the cell's parameters; returns its output and the next state."""
    return split_output(cell, functional_call(cell, parameters, x, state), state)


class EagerExecutor(Executor):
    """Runs every call that torch can run: any device and dtype, double backward, forward mode, vmap."""

    name = "loop"
    follows_autocast = True

    def run(self, inputs: Inputs) -> tuple[Output, State]:
        """Run a cell over a sequence."""
        return run(inputs)

    def unsupported(self, spec: CellSpec) -> str:
        """Return ""."""
        return ""

    def describe(self, spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
        """Yield one line."""
        yield "  every step is run by torch, one after the other; autograd saves what it needs of each"


def run(inputs: Inputs) -> tuple[Output, State]:
    """Call the cell once per step."""
    cell = inputs.cell
    # One functional call around the whole loop, since its bookkeeping takes time at every call.
    named = {f"cell.{name}": value for name, value in inputs.parameters.items()}
    call = record_call(inputs)
    unrolled = _Unrolled(cell, None if call is None else GradientRecorder(call))
    result: tuple[Output, State] = functional_call(unrolled, named, inputs.x, inputs.state, inputs.sizes)  # type: ignore[assignment]
    for name, value in unrolled.replaced_buffers.items():
        module, _, buffer = name.rpartition(".")
        cell.get_submodule(module)._buffers[buffer] = value
    return result
