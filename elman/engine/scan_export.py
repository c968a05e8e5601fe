"""The loop for torch.export and torch.onnx: torch's scan operator over one step, for any number of steps and rows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elman.engine.eager import functional_call, split_output
from elman.engine.outputs import Output, State, as_tuple, output_tensors
from elman.engine.torch_private import disable_torch_function, scan, without_modes
from elman.engine.trace.python_state import version

TRIAL_BATCH = 2


class _Step(nn.Module):
    """A step that also returns buffers, which it may have replaced."""

    def __init__(self, cell: nn.Module, buffers: Sequence[str]) -> None:
        super().__init__()
        self.cell, self.names = cell, buffers

    def forward(self, x: Tensor, state: State) -> tuple[Output, State, list[Tensor]]:
        output, new = split_output(self.cell, self.cell(x, state), state)
        return output, new, [self.cell.get_buffer(name) for name in self.names]


class _StepForm(NamedTuple):
    """The results of a step: the names of its outputs, the dtypes of its states, and the names of changed buffers."""

    names: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    changed: tuple[str, ...]


def run(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, lengths: Tensor | None = None
) -> tuple[Output, State]:
    """Run `cell` over x (T, B, D), like `elman.engine.run`.

    Args:
        cell: see `elman.engine.run`.
        parameters: see `elman.engine.run`.
        x: see `elman.engine.run`.
        state: see `elman.engine.run`.
        lengths: number of real steps of each sequence, (B,). After them, states stay constant and outputs are zero.
    """
    names, dtypes, changed = _try_step(cell, parameters, x, state)
    step, single, num_states = _Step(cell, changed), isinstance(state, Tensor), len(dtypes)
    constant = {name: value for name, value in parameters.items() if name not in changed}
    num_carried = num_states + len(changed)
    num_varying = num_carried + (1 if lengths is None else 2)

    def body(*values: Tensor) -> list[Tensor]:
        before, buffers = values[:num_states], values[num_states:num_carried]
        x_t, *active = values[num_carried:num_varying]
        weights = dict(zip(constant, values[num_varying : num_varying + len(constant)], strict=True))
        # A step may write into a buffer, but not into an input of scan.
        weights |= {name: value.clone() for name, value in zip(changed, buffers, strict=True)}
        named = {f"cell.{name}": value for name, value in weights.items()}
        result: tuple[Output, State, list[Tensor]] = functional_call(step, named, x_t, before[0] if single else before)  # type: ignore[assignment]
        output, new, buffers_after = result
        after, outputs = as_tuple(new), list(output_tensors(output))
        for mask in active:
            after = tuple(torch.where(_align(mask, a), a, b) for a, b in zip(after, before, strict=True))
            outputs = [torch.where(_align(mask, value), value, 0) for value in outputs]
        # Results of scan may not share memory with one another, or with an input.
        return [value.clone() for value in (*after, *buffers_after, *outputs)]

    scanned = [x] if lengths is None else [x, torch.arange(x.shape[0], device=x.device).unsqueeze(1) < lengths]
    pairs = zip(as_tuple(state), dtypes, strict=True)
    states = [value if value.dtype == dtype else value.to(dtype) for value, dtype in pairs]
    initial = [value.clone() for value in (*states, *(parameters[name] for name in changed))]
    # AOTInductor allocates the outputs, and knows a free size only if it is an argument; the body has no use for it.
    batch: int | torch.SymInt = x.shape[1]
    free = (batch,) if isinstance(batch, torch.SymInt) else ()
    results = scan(body, initial, scanned, (*constant.values(), *free))
    finals, buffers, rows = results[:num_states], results[num_states:num_carried], results[num_carried:]
    for name, value in zip(changed, buffers, strict=True):
        module, _, buffer = name.rpartition(".")
        setattr(cell.get_submodule(module), buffer, value)
    return dict(zip(names, rows, strict=True)) if names else rows[0], finals[0] if single else tuple(finals)


def _try_step(cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State) -> _StepForm:
    """Find out what a step returns by running it on zeros, unseen by torch.export."""
    buffers = [name for name, _ in cell.named_buffers() if name in parameters]
    with without_modes(), disable_torch_function(), torch.no_grad(), torch.random.fork_rng(devices=()):
        zeros = {name: _zeros(value, value.shape) for name, value in parameters.items()}
        x_t = _zeros(x, (TRIAL_BATCH, *x.shape[2:]))
        states = tuple(_zeros(value, (TRIAL_BATCH, *value.shape[1:])) for value in as_tuple(state))
        named = {f"cell.{name}": value for name, value in zeros.items()}
        before = states[0] if isinstance(state, Tensor) else states
        result: tuple[Output, State, list[Tensor]] = functional_call(_Step(cell, buffers), named, x_t, before)  # type: ignore[assignment]
    output, new, after = result
    changed = [name for name, value in zip(buffers, after, strict=True) if value is not zeros[name] or version(value)]
    names = tuple(output) if isinstance(output, dict) else ()
    return _StepForm(names, tuple(value.dtype for value in as_tuple(new)), tuple(changed))


def _zeros(like: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.zeros([int(size) for size in shape], dtype=like.dtype, device=like.device)


def _align(active: Tensor, value: Tensor) -> Tensor:
    """Reshape a mask of rows (B,) so that it broadcasts with values (B, ...)."""
    return active.view(-1, *[1] * (value.dim() - 1))
