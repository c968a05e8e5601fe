"""States as nested tuples, NamedTuples, lists or dictionaries; the engine takes a flat tuple of tensors."""

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

ROWS = 3  # of a batch to try a step with: none of the numbers of states that a cell may unpack first
COUNTS = 2, 1, 3, 4  # of states; two before one, as a pair can be told from a tensor, which may be taken for a pair


def is_plain(state: Any) -> bool:
    """Whether a state, or the sizes of one, is one part or a tuple of parts."""
    parts = state if type(state) in (tuple, list) else (state,)
    return state is None or all(isinstance(part, Tensor | int) for part in parts)


def form_of(state: Any) -> Any:
    """A state, or the sizes of one, with numbers in the place of its parts; None if it is plain, or no state at all."""
    if is_plain(state):
        return None
    parts, structure = tree_flatten(state)
    kinds = Tensor if any(isinstance(part, Tensor) for part in parts) else int
    known = parts and all(isinstance(part, kinds) for part in parts)
    return tree_unflatten(range(len(parts)), structure) if known else None


def in_form(form: Any, parts: Sequence[Any]) -> Any:
    """The parts of a state in a form."""
    return tree_map(lambda number: parts[number], form)


class StructuredStateCell(CellWrapper):
    """A cell whose state has a form, and which is given a tuple of its parts.

    Args:
        cell: to go around.
        form: as of `form_of`.
    """

    def __init__(self, cell: nn.Module, form: Any) -> None:
        super().__init__(cell)
        self.form = form

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> Any:
        """One step."""
        result = self.cell(x, in_form(self.form, state))
        new = _parts(result, self.form)
        if new is not None:
            return tuple(new)
        if isinstance(result, tuple | list) and len(result) == 2 and (new := _parts(result[1], self.form)) is not None:
            return result[0], tuple(new)
        raise TypeError(
            f"{self._get_name()}: expected the step to return the state in the form in which it was given, or "
            f"(output, state), got {type(result).__name__}"
        )


def _parts(value: Any, form: Any) -> list[Tensor] | None:
    """The parts of a state, in the order of a form; None for what is not in that form."""
    if isinstance(form, int):
        return [value] if isinstance(value, Tensor) else None
    if isinstance(form, dict):
        fits = isinstance(value, dict) and value.keys() == form.keys()
        pairs = (
            [(value[key], form[key]) for key in sorted(form, key=lambda key: tree_leaves(form[key]))] if fits else []
        )
    else:
        fits = isinstance(value, tuple | list) and len(value) == len(form)
        pairs = list(zip(value, form, strict=True)) if fits else []
    found = [_parts(*pair) for pair in pairs]
    if not fits or None in found:
        return None
    return [tensor for part in found if part is not None for tensor in part]


def guessed(cell: nn.Module, x: Tensor, rows: int | None = None) -> tuple[int | tuple[int, ...] | None, str]:
    """The width of the state of a cell that has `hidden_size`, or several such, and why it is not known.

    Found by trying a step, whose effects are undone.

    Args:
        cell: whose state it is.
        x: an input (B, D), of which the width and the dtype are looked at.
        rows: of the batch of a call, for cells that read tensors with just as many rows: an encoder's outputs, say.
    """
    size = getattr(cell, "hidden_size", None)
    if isinstance(size, bool) or not isinstance(size, int):
        return None, ""
    floating = (value for value in cell.parameters() if value.is_floating_point() and not is_lazy(value))
    like = next(floating, x if x.is_floating_point() else torch.empty(0, device=x.device))
    why = ""
    for tried, count in product((ROWS,) if rows is None else (ROWS, rows), COUNTS):
        states = tuple(like.new_zeros(tried, size) for _ in range(count))
        state = states[0] if count == 1 else states
        try:
            new = _tried(cell, x.new_zeros(tried, x.shape[-1]), state)
        except OtherDtype as error:
            why = str(error)
            continue
        except CannotCapture:  # what a step does cannot be undone: it is not tried, and one state is usual
            return size, ""
        except Exception as error:  # whatever a cell raises that unpacks something else
            why = f"{type(error).__name__}: {error}".partition("\n")[0] if count == 1 else why
            continue
        if all(s.shape == (tried, size) for s in new):
            return (size if count == 1 else (size,) * count), ""
    return None, why and f" (a step with one state of hidden_size={size} ended with {why})"


def _tried(cell: nn.Module, x: Tensor, state: State) -> tuple[Tensor, ...]:
    """The states after a step."""
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
