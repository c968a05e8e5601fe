"""Runs a call of an executor that compiles: refuses what its backend cannot run, finds the plan of the rest."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from elman.engine import eager
from elman.engine.compiled import plan_cache
from elman.engine.compiled.backend import Backend
from elman.engine.compiled.plan_cache import PlanResult
from elman.engine.compiled.records import PlanInputs
from elman.engine.compiled.torch_ops import apply, draw
from elman.engine.executor import Unsupported
from elman.engine.inputs import CellSpec, Inputs, StateSize
from elman.engine.outputs import Output, State, as_tuple, row_width, unflatten_output
from elman.engine.precision import autocast_dtype
from elman.engine.torch_private import is_exporting, is_transformed


def run(inputs: Inputs, backend: Backend) -> tuple[Output, State] | Unsupported:
    """Run a cell over a sequence, or say why it cannot be compiled.

    Calls under forward-mode differentiation, torch.func or torch.export, and empty batches, run on the loop executor.
    """
    cell, x, state, sizes = inputs.cell, inputs.x, inputs.state, inputs.sizes
    states, parameters = as_tuple(state), _floating(inputs.parameters)
    values = tuple(parameters.values())
    if autocast_dtype(backend.device_type) is not None:
        parameter_dtype = dtype_of(values)
        dtype = backend.autocast_dtype(parameter_dtype)
        x, states = x.to(dtype), tuple(s.to(dtype) for s in states)
        if dtype != parameter_dtype:
            values = tuple(value.to(dtype) for value in values)
    tensors = (x, *states, *values)
    compiling = torch.compiler.is_compiling()
    if not compiling and any(map(Tensor.is_neg, tensors)):
        x, states, values = x.resolve_neg(), *(tuple(t.resolve_neg() for t in of) for of in (states, values))
        tensors = (x, *states, *values)
    # An exported program must run without elman, and a plan exists in this process alone.
    if (not compiling and is_transformed(tensors)) or is_exporting() or (sizes is None and x.shape[1] == 0):
        return eager.run(inputs)
    if reason := backend.unsupported(tensors):
        return Unsupported(reason, warn=not backend.unsupported((x,)))
    plan = plan_cache.plan_for(cell, _shapes(parameters), *_sizes(x, state), backend)
    if plan.reason:
        return Unsupported(plan.reason)
    first = int(bool(plan.output))
    if first:  # an output of its own takes the place of a first state, whose initial value is not read
        states = (x.new_zeros(states[0].shape[0], row_width(plan.output)), *states)
    draws = draw(plan.key, x, sizes) if plan.draws else []
    rows, finals = apply(plan.key, PlanInputs(x, states, values, draws, sizes))
    outputs = unflatten_output(rows, plan.output) if first else rows
    return outputs, finals[first] if isinstance(state, Tensor) else tuple(finals[first:])


def unsupported(spec: CellSpec, backend: Backend) -> str:
    """Return why a cell cannot be compiled; "" if it can."""
    parameters = _floating(spec.parameters)
    return backend.unsupported(tuple(parameters.values())) or plan_result(spec, backend).reason


def dtype_of(parameters: Iterable[Tensor]) -> torch.dtype:
    """Return the dtype in which a cell with these parameters is computed."""
    return next((value.dtype for value in parameters if value.is_floating_point()), torch.float32)


def plan_result(spec: CellSpec, backend: Backend) -> PlanResult:
    """Find the plan of a cell, or why there is none."""
    shapes = _shapes(_floating(spec.parameters))
    return plan_cache.plan_for(spec.cell, shapes, spec.input_size, spec.state_size, backend)


def plan_key(spec: CellSpec, x: Tensor, backend: Backend) -> str | None:
    """Return the key of the plan of a cell for rows like x; None if it cannot be compiled or has its own output."""
    if backend.unsupported((x, *spec.parameters.values())):
        return None
    plan = plan_result(spec, backend)
    return None if plan.reason or plan.output else plan.key


def _sizes(x: Tensor, state: State) -> tuple[int, StateSize]:
    """D, and the width of the state, or of each state where there are several."""
    input_size = x.shape[-1]
    size: StateSize = state.shape[1] if isinstance(state, Tensor) else tuple(s.shape[1] for s in state)
    return input_size, size


def _floating(parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The parameters without integers, which count steps, say: capturing fails only if the cell computes with them."""
    if all(map(Tensor.is_floating_point, parameters.values())):
        return parameters
    return {name: value for name, value in parameters.items() if value.is_floating_point() or value.is_complex()}


def _shapes(parameters: Mapping[str, Tensor]) -> plan_cache.Shapes:
    return tuple((name, value.shape) for name, value in parameters.items())
