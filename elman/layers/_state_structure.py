"""States as nested tuples, NamedTuples, lists or dictionaries; the engine takes a flat tuple of tensors.

A structure is a state, or the sizes of one, with the index of each leaf in place of the leaf.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from elman.engine import State, as_tuple
from elman.engine.eager import functional_call, split_output
from elman.engine.torch_private import tree_flatten, tree_leaves, tree_map, tree_unflatten
from elman.engine.trace.dtypes import DtypeCheck, OtherDtype
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.side_effects import without_effects
from elman.layers._wrappers import CellWrapper

TRIAL_BATCH = 3  # unlike the state counts tried first: a cell must not unpack the rows of a tensor as its states
STATE_COUNTS = 2, 1, 3, 4  # two before one: a cell with two states may take the rows of a single tensor for a pair


def is_flat(state: Any) -> bool:
    """Whether a state, or the sizes of one, is a single leaf or a tuple or list of leaves."""
    parts = state if type(state) in (tuple, list) else (state,)
    return state is None or all(isinstance(part, Tensor | int) for part in parts)


def structure_of(state: Any) -> Any:
    """Return the structure of a nested state, or of the sizes of one; None if it is flat, or no state at all."""
    if is_flat(state):
        return None
    leaves, treespec = tree_flatten(state)
    leaf_type = Tensor if any(isinstance(leaf, Tensor) for leaf in leaves) else int
    is_state = leaves and all(isinstance(leaf, leaf_type) for leaf in leaves)
    return tree_unflatten(range(len(leaves)), treespec) if is_state else None


def unflatten_state(structure: Any, leaves: Sequence[Any]) -> Any:
    """Put leaves in place of their indices in a structure."""
    return tree_map(lambda index: leaves[index], structure)


class StructuredStateCell(CellWrapper):
    """Wraps a cell with a nested state: takes and returns the leaves of the state as a flat tuple.

    Args:
        cell: the cell to wrap.
        structure: of its state, from `structure_of`.
    """

    def __init__(self, cell: nn.Module, structure: Any) -> None:
        super().__init__(cell)
        self.structure = structure

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> Any:
        """Run one step."""
        result = self.cell(x, unflatten_state(self.structure, state))
        new = _flatten_like(result, self.structure)
        if new is not None:
            return tuple(new)
        if isinstance(result, tuple | list) and len(result) == 2:
            new = _flatten_like(result[1], self.structure)
            if new is not None:
                return result[0], tuple(new)
        raise TypeError(
            f"{self._get_name()}: expected the step to return the state in the structure of its argument, or "
            f"(output, state), got {type(result).__name__}"
        )


def _flatten_like(state: Any, structure: Any) -> list[Tensor] | None:
    """Return the leaves of a state in the order of a structure's indices; None if the state does not match it."""
    if isinstance(structure, int):
        return [state] if isinstance(state, Tensor) else None
    if isinstance(structure, dict):
        matches = isinstance(state, dict) and state.keys() == structure.keys()
        # In order of the leaf indices: tree_flatten may not follow the insertion order of a dictionary.
        keys = sorted(structure, key=lambda key: tree_leaves(structure[key])) if matches else []
        pairs = [(state[key], structure[key]) for key in keys]
    else:
        matches = isinstance(state, tuple | list) and len(state) == len(structure)
        pairs = list(zip(state, structure, strict=True)) if matches else []
    children = [_flatten_like(*pair) for pair in pairs]
    if not matches or None in children:
        return None
    return [leaf for leaves in children if leaves is not None for leaf in leaves]


def infer_state_size(cell: nn.Module, x: Tensor, batch: int | None = None) -> tuple[int | tuple[int, ...] | None, str]:
    """Infer from `hidden_size` the size of a cell's state, by trying a step with one or several states of that width.

    The effects of the trial steps are undone.

    Args:
        cell: the cell.
        x: an input (B, D), of which only the width and the dtype are used.
        batch: batch size of the call, tried too: a cell may read tensors with just as many rows, such as the outputs of
            an encoder.

    Returns:
        The size, or a tuple with one for each state, or None if it is not known; and why not, for an error message.
    """
    size = getattr(cell, "hidden_size", None)
    if isinstance(size, bool) or not isinstance(size, int):
        return None, ""
    floating = (value for value in cell.parameters() if value.is_floating_point() and not is_lazy(value))
    like = next(floating, x if x.is_floating_point() else torch.empty(0, device=x.device))
    reason = ""
    for B, count in product((TRIAL_BATCH,) if batch is None else (TRIAL_BATCH, batch), STATE_COUNTS):
        states = tuple(like.new_zeros(B, size) for _ in range(count))
        state = states[0] if count == 1 else states
        try:
            new = _try_step(cell, x.new_zeros(B, x.shape[-1]), state)
        except OtherDtype as error:
            reason = str(error)
            continue
        except CannotCapture:  # the step has effects that cannot be undone: do not try it, and assume one state
            return size, ""
        except Exception as error:  # a cell may raise anything for states that it does not expect
            reason = f"{type(error).__name__}: {error}".partition("\n")[0] if count == 1 else reason
            continue
        if all(s.shape == (B, size) for s in new):
            return (size if count == 1 else (size,) * count), ""
    return None, reason and f" (a step with one state of hidden_size={size} ended with {reason})"


def _try_step(cell: nn.Module, x: Tensor, state: State) -> tuple[Tensor, ...]:
    """Run a step, undo its effects, and return the new states."""
    buffers = {name: value.clone() for name, value in cell.named_buffers()}
    new: tuple[Tensor, ...] = ()
    try:
        with (
            torch.no_grad(),
            torch.random.fork_rng([x.device] if x.is_cuda else []),
            without_effects(cell, buffers.values(), logs=True),
            DtypeCheck(as_tuple(state)[0].dtype),
        ):
            new = as_tuple(split_output(cell, functional_call(cell, buffers, x, state), state)[1])
    except CannotCapture:
        if not new:
            raise
    return new
