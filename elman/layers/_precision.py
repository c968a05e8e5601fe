"""Casts results under autocast to the dtypes of torch.nn's layers."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from elman import cells
from elman.cells._cell import Cell
from elman.engine import Inputs, Output, State, as_tuple, choose, eager
from elman.engine.outputs import output_tensors
from elman.engine.precision import autocast_dtype
from elman.engine.torch_private import in_forward_mode, in_torch_func, is_autocasting

Dtypes = tuple[torch.dtype, ...]
_dtypes: "WeakKeyDictionary[nn.Module, dict[Any, Dtypes]]" = WeakKeyDictionary()


def fused_dtype(cell_type: type[Cell], like: Tensor, packed: bool) -> torch.dtype | None:
    """The dtype of all results of a layer of torch.nn that is one operation to autocast; None for any other layer.

    On the CPU that is the LSTM (oneDNN's, which takes no packed sequences and no projections), on other devices every
    layer. Autocast leaves double precision alone.
    """
    if (dtype := autocast_dtype(like.device.type)) is None or like.dtype == torch.float64:
        return None
    fused = cell_type is cells.LSTM and not packed if like.is_cpu else "torch_function" in vars(cell_type)
    return dtype if fused else None


def with_loop_dtypes(inputs: Inputs, executor: str, result: tuple[Output, State]) -> tuple[Output, State]:
    """Cast what an executor has returned under autocast to the dtypes that the loop executor returns.

    The native executor returns float32 under autocast.
    """
    if not is_autocasting():
        return result
    x = inputs.x
    if in_torch_func() or in_forward_mode() or not x.is_cpu or 0 in x.shape[:-1] or autocast_dtype("cpu") is None:
        return result
    output, final = result
    if not (dtypes := _loop_dtypes(inputs, executor)):
        return result
    num_states = len(as_tuple(final))
    outputs = [value.to(dtype) for value, dtype in zip(output_tensors(output), dtypes[:-num_states], strict=True)]
    finals = tuple(value.to(dtype) for value, dtype in zip(as_tuple(final), dtypes[-num_states:], strict=True))
    return (
        dict(zip(output, outputs, strict=True)) if isinstance(output, dict) else outputs[0],
        finals[0] if isinstance(final, Tensor) else finals,
    )


def _loop_dtypes(inputs: Inputs, executor: str) -> Dtypes:
    """The dtypes of the outputs and the states on the loop executor; empty where results need no cast."""
    if any(value.dtype == torch.float64 for value in inputs.parameters.values()):
        return ()  # autocast leaves double precision alone
    cell = inputs.cell
    key = executor, autocast_dtype("cpu"), *(tensor.dtype for tensor in inputs.tensors)
    cache = _dtypes.setdefault(cell, {})
    if key not in cache:
        cache[key] = ()
        if not choose(executor, [inputs.spec()])[0].follows_autocast:
            # One step of one row is enough. A step that can be captured has no side effects to undo.
            row = inputs.x[:1, :1] if inputs.x.dim() == 3 else inputs.x[:1].unsqueeze(0)
            state = inputs.state[:1] if isinstance(inputs.state, Tensor) else tuple(s[:1] for s in inputs.state)
            with torch.no_grad(), torch.random.fork_rng(devices=()):
                output, final = eager.run(Inputs(cell, inputs.parameters, row, state))
            cache[key] = tuple(value.dtype for value in (*output_tensors(output), *as_tuple(final)))
    return cache[key]
