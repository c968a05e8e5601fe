"""Casts results under autocast to the dtypes of torch.nn's layers."""

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from elman import cells
from elman.cells._cell import Cell
from elman.engine import CellSpec, Inputs, Output, State, as_tuple, choose, eager
from elman.engine.outputs import output_tensors as outputs_of
from elman.engine.torch_private import in_forward_mode, in_torch_func, is_autocasting

Dtypes = tuple[torch.dtype, ...]
FUSED: set[type[Cell]] = {cells.RNN, cells.GRU, cells.LSTM, cells.ProjectedLSTM}  # that cuDNN has as one operation
_known: "WeakKeyDictionary[nn.Module, dict[Any, Dtypes]]" = WeakKeyDictionary()


def autocast_dtype(device: str) -> torch.dtype | None:
    """The dtype of autocast on a kind of device, where it is on."""
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def fused_dtype(cell_type: type[Cell], like: Tensor, packed: bool) -> torch.dtype | None:
    """The dtype of all that a layer of torch.nn returns whose steps are one operation to autocast; else None.

    That is the LSTM on the CPU (oneDNN's, which takes no packed sequences and no projections), and on other devices
    every layer. Double precision is left alone.
    """
    if (dtype := autocast_dtype(like.device.type)) is None or like.dtype == torch.float64:
        return None
    fused = cell_type is cells.LSTM and not packed if like.is_cpu else cell_type in FUSED
    return dtype if fused else None


def as_loop(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, executor: str,
    result: tuple[Output, State],
) -> tuple[Output, State]:  # fmt: skip
    """What an executor has returned, in the dtypes of the loop executor, whose operations autocast sees.

    The native executor computes in single precision, whatever autocast says.
    """
    if not is_autocasting():
        return result
    of_torch_func = in_torch_func() or in_forward_mode()
    if of_torch_func or not x.is_cpu or 0 in x.shape[:-1] or (cast := autocast_dtype("cpu")) is None:
        return result
    output, final = result
    dtypes = _dtypes(cell, parameters, x, state, cast, executor)
    if not dtypes:
        return result
    of_outputs, of_states = dtypes[: -len(as_tuple(final))], dtypes[-len(as_tuple(final)) :]
    outputs = [value.to(dtype) for value, dtype in zip(outputs_of(output), of_outputs, strict=True)]
    finals = tuple(value.to(dtype) for value, dtype in zip(as_tuple(final), of_states, strict=True))
    return (
        dict(zip(output, outputs, strict=True)) if isinstance(output, dict) else outputs[0],
        finals[0] if isinstance(final, Tensor) else finals,
    )


def _dtypes(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, cast: torch.dtype, executor: str
) -> Dtypes:
    """Of the outputs and of the states; none where an executor has run that follows autocast."""
    if any(value.dtype == torch.float64 for value in parameters.values()):
        return ()  # which autocast leaves alone
    tensors = (x, *as_tuple(state), *parameters.values())
    asked = (executor, cast, *(tensor.dtype for tensor in tensors))
    known = _known.setdefault(cell, {})
    if asked not in known:
        sizes = tuple(s.shape[1] for s in as_tuple(state))
        spec = CellSpec(cell, parameters, x.shape[-1], sizes[0] if isinstance(state, Tensor) else sizes)
        known[asked] = ()
        if not choose(executor, [spec])[0].follows_autocast:
            # One step of one row: what can be captured leaves nothing behind.
            row = x[:1, :1] if x.dim() == 3 else x[:1].unsqueeze(0)
            begin = state[:1] if isinstance(state, Tensor) else tuple(s[:1] for s in state)
            with torch.no_grad(), torch.random.fork_rng(devices=()):
                output, final = eager.run(Inputs(cell, parameters, row, begin))
            known[asked] = tuple(value.dtype for value in (*outputs_of(output), *as_tuple(final)))
    return known[asked]
