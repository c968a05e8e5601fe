"""Runs a call of the native executor: refuses what it cannot run, finds the plan of the rest."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from elman.engine import eager
from elman.engine.cpu import kernel_cache
from elman.engine.cpu.compiled_plan import PlanInputs
from elman.engine.cpu.kernel_cache import PlanResult
from elman.engine.cpu.torch_ops import apply, draw
from elman.engine.eager import as_tuple
from elman.engine.executor import CellSpec, Inputs, Sizes, Unsupported
from elman.engine.outputs import Output, State, row_width, unflatten_output
from elman.engine.torch_private import in_forward_mode, in_torch_func

DTYPES = (torch.float32, torch.float64)


def run(inputs: Inputs) -> tuple[Output, State] | Unsupported:
    """Run a cell over a sequence, or say why it cannot be compiled.

    What only the loop executor can differentiate (forward mode, torch.func, a gradient of a gradient) goes to it, and
    what torch.export writes down.
    """
    cell, x, state, sizes = inputs.cell, inputs.x, inputs.state, inputs.sizes
    states, parameters = as_tuple(state), _floating(inputs.parameters)
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
        return eager.run(inputs._replace(x=x))
    if reason := _unsupported_tensors((x, *states, *values)):
        return Unsupported(reason, warn=not _unsupported_tensors((x,)))
    plan = kernel_cache.plan_for(cell, _shapes(parameters), *_sizes(x, state))
    if plan.reason:
        return Unsupported(plan.reason)
    own = int(
        bool(plan.output)
    )  # an output of its own takes the place of a first state, whose initial value is not read
    if own:
        states = (x.new_zeros(states[0].shape[0], row_width(plan.output)), *states)
    draws = draw(plan.key, x, sizes) if plan.draws else []
    rows, finals = apply(plan.key, PlanInputs(x, states, values, draws, sizes))
    outputs = unflatten_output(rows, plan.output) if own else rows
    return outputs, finals[own] if isinstance(state, Tensor) else tuple(finals[own:])


def unsupported(spec: CellSpec) -> str:
    """Why a cell cannot run here; "" if it can."""
    parameters = _floating(spec.parameters)
    return _unsupported_tensors(tuple(parameters.values())) or plan_result(spec).reason


def plan_result(spec: CellSpec) -> PlanResult:
    """The plan of a cell, or why there is none."""
    return kernel_cache.plan_for(spec.cell, _shapes(_floating(spec.parameters)), spec.input_size, spec.state_size)


def plan_key(spec: CellSpec, x: Tensor) -> str | None:
    """The key of the plan of a cell whose output is its state, for rows like x; None if it cannot be compiled."""
    if _unsupported_tensors((x, *spec.parameters.values())):
        return None
    plan = plan_result(spec)
    return None if plan.reason or plan.output else plan.key


def _sizes(x: Tensor, state: State) -> tuple[int, Sizes]:
    """D, and the width of the state, or of each state where there are several."""
    input_size = x.shape[-1]
    size: Sizes = state.shape[1] if isinstance(state, Tensor) else tuple(s.shape[1] for s in state)
    return input_size, size


def _floating(parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without whole numbers, which a cell may count its steps with: they stop it only where it computes with them."""
    if all(value.is_floating_point() for value in parameters.values()):
        return parameters
    return {name: value for name, value in parameters.items() if value.is_floating_point() or value.is_complex()}


def _shapes(parameters: Mapping[str, Tensor]) -> kernel_cache.Shapes:
    return tuple((name, value.shape) for name, value in parameters.items())


def _unsupported_tensors(tensors: Sequence[Tensor]) -> str:
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
    """Whether torch.func or forward-mode differentiation is active for the tensors."""
    if in_forward_mode() and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        return True
    return in_torch_func()
