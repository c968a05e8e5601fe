"""The door of the native executor, and what it cannot run."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from elman.engine import eager
from elman.engine.cpu import kernel_cache
from elman.engine.cpu.kernel_cache import PlanResult, Sizes
from elman.engine.cpu.single_step import ForwardStep, can_step
from elman.engine.cpu.stacked_step import StackedStep, can_stack
from elman.engine.cpu.torch_ops import apply, draw
from elman.engine.eager import as_tuple
from elman.engine.outputs import Output, State, row_width, unflatten_output

DTYPES = (torch.float32, torch.float64)


def run(
    cell: nn.Module,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    state: State,
    sizes: Tensor | None = None,
    strict: bool = True,
) -> tuple[Output, State]:
    """Run `cell` over `x`, as `elman.engine.run` says.

    What only the loop executor can differentiate (forward mode, torch.func, a gradient of a gradient) goes to it, and
    what torch.export writes down.

    Args:
        cell: as there.
        parameters: as there.
        x: as there.
        state: as there.
        sizes: as there.
        strict: raise for what cannot be compiled; else warn once, and run on the loop executor.

    Raises:
        RuntimeError: if the cell, the device or the dtype is none that can be compiled.
    """
    states = as_tuple(state)
    every, parameters = parameters, _fractions(parameters)
    values = tuple(parameters.values())
    if torch.is_autocast_enabled("cpu"):
        # As torch does for what loses too much in half precision: it is computed in single precision.
        dtype = next((value.dtype for value in values if value.is_floating_point()), torch.float32)
        x, states = x.to(dtype), tuple(s.to(dtype) for s in states)
    if not torch.compiler.is_compiling() and any(t.is_neg() for t in (x, *states, *values)):
        x, states, values = x.resolve_neg(), *(tuple(t.resolve_neg() for t in of) for of in (states, values))
    transformed = not torch.compiler.is_compiling() and _transformed((x, *states, *values))
    # What is exported must run without us, and a plan lives in this process.
    if transformed or torch.compiler.is_exporting() or (sizes is None and x.shape[1] == 0):
        return eager.run(cell, every, x, state, sizes)
    plan = PlanResult("", unfit((x, *states, *values)))
    if not plan.reason:
        plan = kernel_cache.plan_for(cell, _shapes(parameters), *_sizes(cell, x, state))
    if plan.reason:
        if strict:
            raise RuntimeError(plan.reason)
        # Whoever gives half precision, or another device, knows it; what is in the cell is told.
        if not unfit((x,)) and not torch.compiler.is_compiling():
            kernel_cache.warn_once(cell, plan.reason)
        return eager.run(cell, every, x, state, sizes)
    own = int(bool(plan.output))  # an output that is no state is one that nobody reads
    if own:
        states = (x.new_zeros(states[0].shape[0], row_width(plan.output)), *states)
    rows, finals = apply(plan.key, x, states, values, draw(plan.key, x, sizes) if plan.draws else [], sizes)
    outputs = unflatten_output(rows, plan.output) if own else rows
    return outputs, finals[own] if isinstance(state, Tensor) else tuple(finals[own:])


def why_not(cell: nn.Module, parameters: Mapping[str, Tensor], input_size: int, state_size: Sizes) -> str:
    """Why a cell with these parameters cannot run here; "" if it can."""
    parameters = _fractions(parameters)
    return (
        unfit(tuple(parameters.values()))
        or kernel_cache.plan_for(cell, _shapes(parameters), input_size, state_size).reason
    )


def _sizes(cell: nn.Module, x: Tensor, state: State) -> tuple[int, Sizes]:
    """D, and the width of the state, or of each state where there are several."""
    input_size = x.shape[-1]
    size: Sizes = state.shape[1] if isinstance(state, Tensor) else tuple(s.shape[1] for s in state)
    return input_size, size


def _fractions(parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without whole numbers, which a cell may count its steps with: they stop it only where it computes with them."""
    if all(value.is_floating_point() for value in parameters.values()):
        return parameters
    return {name: value for name, value in parameters.items() if value.is_floating_point() or value.is_complex()}


def _shapes(parameters: Mapping[str, Tensor]) -> kernel_cache.Shapes:
    return tuple((name, value.shape) for name, value in parameters.items())


def unfit(tensors: Sequence[Tensor]) -> str:
    """Why tensors like these cannot be computed with here; "" if they can."""
    for tensor in tensors:
        if not tensor.is_cpu:
            return f"the native executor runs on the CPU, and was given a tensor on {tensor.device}"
        if tensor.layout != torch.strided:
            return f"the native executor runs on dense tensors alone, and was given one of {tensor.layout}"
        if tensor.dtype not in DTYPES or tensor.dtype != tensors[0].dtype:
            mixed = " and ".join(dict.fromkeys((str(tensors[0].dtype), str(tensor.dtype))))
            return f"the native executor runs on float32 or float64 alone, and was given {mixed}"
    return ""


def _transformed(tensors: Sequence[Tensor]) -> bool:
    """Whether torch.func or forward-mode differentiation is at work on the tensors."""
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


def step_of(
    cell: nn.Module, parameters: Mapping[str, Tensor], input_size: int, state_size: Sizes, x: Tensor
) -> ForwardStep | None:
    """A cell's step by itself, for as many rows as x (B, D) has; None if there is none that needs nothing else."""
    if (key := _key(cell, parameters, input_size, state_size, x)) is None:
        return None
    native = kernel_cache.compiled_plan(key, x.dtype)
    return ForwardStep(native, x, len(x)) if can_step(native, len(x)) else None


def stacked_of(cells: Sequence[tuple[nn.Module, Mapping[str, Tensor], int, Sizes]], x: Tensor) -> StackedStep | None:
    """A step of several cells, one over the other, with its gradient, for as many rows as x (B, D) has; or None.

    Args:
        cells: each with its parameters, the width of its input and those of its states.
        x: (B, D).
    """
    keys = [_key(*of, x) for of in cells]
    known = [key for key in keys if key is not None and can_stack(key, x.dtype, len(x))]
    if len(known) < len(keys):
        return None
    return StackedStep(
        known, [[value.shape for value in parameters.values()] for _, parameters, *_ in cells], x, len(x)
    )


def _key(
    cell: nn.Module, parameters: Mapping[str, Tensor], input_size: int, state_size: Sizes, x: Tensor
) -> str | None:
    """Of the plan of a cell whose output is its state, if it can be compiled."""
    if unfit((x, *parameters.values())):
        return None
    plan = kernel_cache.plan_for(cell, _shapes(parameters), input_size, state_size)
    return None if plan.reason or plan.output else plan.key
