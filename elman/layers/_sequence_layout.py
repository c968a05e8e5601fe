"""Input layouts: padded or packed, batched or not; brings rows into the order of the engine and back."""

from collections.abc import Sequence
from functools import cached_property, wraps
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from typing_extensions import override

from elman.engine.torch_private import in_torch_func, without_transforms


def _unseen(function: Any) -> Any:
    """What works with numbers of indices: torch.compile does not look into it, and no transform of torch.func does."""
    function._torchdynamo_disable = True  # what torch.compiler.disable does, without importing the compiler

    @wraps(function)
    def outside(*arguments: Any) -> Any:
        if torch.compiler.is_compiling() or not in_torch_func():
            return function(*arguments)
        with without_transforms():
            return function(*arguments)

    return outside


class SequenceLayout:
    """(T, B, D), or (B, T, D), or (T, D) without a batch; every step is real.

    Args:
        input: of this shape.
        batch_first: (B, T, D) it is.
    """

    lengths: Tensor | None = None  # how many steps of each sequence are real, where rows are not packed
    sizes: Tensor | None = None  # how many sequences have a step t, where rows are packed (N, D)
    none = False  # of the sequences has a step

    def __init__(self, input: Tensor, batch_first: bool) -> None:
        self.batched, self.batch_first = input.dim() == 3, batch_first
        self.T = input.shape[1 if self.batched and batch_first else 0]
        self.B = input.shape[0 if batch_first else 1] if self.batched else 1

    def rows(self, input: Tensor) -> Tensor:
        """The input as the engine takes it: (T, B, D), or packed."""
        if not self.batched:
            return input.unsqueeze(1)
        return input.transpose(0, 1) if self.batch_first else input

    def outputs(self, rows: Tensor) -> Any:
        """Outputs of the engine in the layout of the input."""
        if not self.batched:
            return rows.squeeze(1)
        return rows.transpose(0, 1) if self.batch_first else rows

    def padded(self, rows: Tensor) -> Tensor:
        """Values of the engine as (T, B, ...), with zeros for steps that are none."""
        return rows

    def enter(self, state: Tensor) -> Tensor:
        """A state (..., B, H), or (..., H) without a batch, as the engine takes it."""
        return state if self.batched else state.unsqueeze(-2)

    def leave(self, state: Tensor, initial: Tensor) -> Tensor:
        """A final state of the engine as its caller gave the initial one, which has entered."""
        return state if self.batched else state.squeeze(-2)

    def reversed(self, rows: Tensor) -> Tensor:
        """Every sequence from its end to its beginning."""
        return rows.flip(0)

    def spread(self, values: Tensor) -> Tensor:
        """Values of each sequence, (B, ...), for each of its rows."""
        return values.unsqueeze(0)


class MaskedLayout(SequenceLayout):
    """As `SequenceLayout`, of which only the first steps of a row are real: for torch.export, which knows no numbers.

    Args:
        input: of this shape.
        lengths: (B,), whole numbers from 0 to T.
        batch_first: (B, T, D) it is.
    """

    def __init__(self, input: Tensor, lengths: Tensor, batch_first: bool) -> None:
        super().__init__(input, batch_first)
        self.lengths = lengths
        self._steps = torch.arange(self.T, device=input.device).unsqueeze(1)
        self._left = lengths - self._steps  # (T, B), of steps, before each

    def rows(self, input: Tensor) -> Tensor:
        """The rows of the input, with zeros behind the end of each sequence."""
        return super().rows(input).masked_fill((self._left <= 0).unsqueeze(-1), 0)

    def reversed(self, rows: Tensor) -> Tensor:
        """The rows in reverse, each sequence from its own end."""
        steps = torch.where(self._left > 0, self._left - 1, self._steps)
        return rows.gather(0, steps.view(*steps.shape, *[1] * (rows.dim() - 2)).expand(rows.shape))


class PackedLayout(SequenceLayout):
    """A PackedSequence."""

    def __init__(self, input: PackedSequence) -> None:
        self.batched, self.input = True, input
        self.sizes: Tensor = input.batch_sizes
        self.T, self.B = len(self.sizes), int(self.sizes[0])

    def rows(self, input: Any) -> Tensor:
        """As they are."""
        return input.data  # type: ignore[no-any-return]

    def outputs(self, rows: Tensor) -> Any:
        """Outputs as a PackedSequence."""
        return self.input._replace(data=rows)

    @override
    def padded(self, rows: Tensor) -> Tensor:
        order = self.input.sorted_indices
        members = self._members if order is None else order[self._members.to(order.device)]
        return _placed(rows, self._steps.to(rows.device) * self.B + members.to(rows.device), (len(self.sizes), self.B))

    def enter(self, state: Tensor) -> Tensor:
        """The states as the engine takes them: the longest sequence first."""
        order = self.input.sorted_indices
        return state if order is None else state.index_select(-2, order)

    @override
    def leave(self, state: Tensor, initial: Tensor) -> Tensor:
        back = self.input.unsorted_indices
        return state if back is None else state.index_select(-2, back)

    def reversed(self, rows: Tensor) -> Tensor:
        """The rows in reverse, each sequence from its own end."""
        reverse = self._reverse
        return rows.index_select(0, reverse.to(rows.device))

    @override
    def spread(self, values: Tensor) -> Tensor:
        members = self._members
        return values.index_select(0, members.to(values.device))

    @cached_property
    @_unseen
    def _begins(self) -> NDArray[np.int64]:
        sizes: NDArray[np.int64] = self.sizes.numpy()
        found: NDArray[np.int64] = np.cumsum(sizes) - sizes
        return found

    @cached_property
    @_unseen
    def _members(self) -> Tensor:
        """Of each row, the sequence that it belongs to, of those sorted by length."""
        return torch.from_numpy(np.arange(int(self.sizes.sum())) - np.repeat(self._begins, self.sizes.numpy()))

    @cached_property
    @_unseen
    def _steps(self) -> Tensor:
        """Of each row, its step."""
        return torch.from_numpy(np.repeat(np.arange(len(self.sizes)), self.sizes.numpy()))

    @cached_property
    @_unseen
    def _reverse(self) -> Tensor:
        """Of each row, the one that is as far from the end of its sequence as this is from its beginning."""
        members, steps = self._members.numpy(), self._steps.numpy()
        lengths = np.searchsorted(-self.sizes.numpy(), -np.arange(int(self.sizes[0])), side="left")
        return torch.from_numpy(self._begins[lengths[members] - 1 - steps] + members)


class RaggedLayout(PackedLayout):
    """(T, B, D), (B, T, D) or (T, D), of which only the first steps of a row are real; they are packed for the engine.

    Args:
        input: of this shape.
        lengths: (B,), whole numbers from 0 to T.
        batch_first: (B, T, D) it is.
    """

    @_unseen
    def __init__(self, input: Tensor, lengths: NDArray[np.int64], batch_first: bool) -> None:
        SequenceLayout.__init__(self, input, batch_first)
        self.none = not bool(lengths.any())  # of the sequences has a step: the engine is given one of each, to forget
        real = np.maximum(lengths, int(self.none))
        self.order = np.argsort(-real, kind="stable")
        self._sorted = real[self.order]
        self.sizes = torch.from_numpy(np.searchsorted(-self._sorted, -np.arange(self._sorted[0])))
        self._device, self._found = input.device, dict[bool, Tensor]()

    def rows(self, input: Tensor) -> Tensor:
        """The real steps alone, packed."""
        positions = self._positions(self.batch_first)
        rows = (input.flatten(0, 1) if self.batched else input).index_select(0, positions)
        return _nothing_of(rows) if self.none else rows

    def outputs(self, rows: Tensor) -> Tensor:
        """The outputs, with zeros behind the end of each sequence."""
        if not self.batched:
            return self.padded(rows).squeeze(1)
        return self._placed(rows, self.batch_first)

    @override
    def padded(self, rows: Tensor) -> Tensor:
        return self._placed(rows, batch_first=False)

    def enter(self, state: Tensor) -> Tensor:
        """The states as the engine takes them: the longest sequence first."""
        order = self._order
        return SequenceLayout.enter(self, state).index_select(-2, order)

    @override
    def leave(self, state: Tensor, initial: Tensor) -> Tensor:
        if self.none:
            state = _nothing_of(state) + initial
        back = self._back
        return SequenceLayout.leave(self, state.index_select(-2, back), initial)

    def _placed(self, rows: Tensor, batch_first: bool) -> Tensor:
        positions, shape = self._positions(batch_first), (self.B, self.T) if batch_first else (self.T, self.B)
        return _placed(_nothing_of(rows) if self.none else rows, positions, shape)

    @cached_property
    @_unseen
    def _order(self) -> Tensor:
        return torch.from_numpy(self.order).to(self._device)

    @cached_property
    @_unseen
    def _back(self) -> Tensor:
        return torch.from_numpy(np.argsort(self.order)).to(self._device)

    @_unseen
    def _positions(self, batch_first: bool) -> Tensor:
        """Of each row, where it lies in the padded input."""
        if batch_first not in self._found:
            steps = np.arange(len(self.sizes))[:, None]
            found = self.order * self.T + steps if batch_first else steps * self.B + self.order
            self._found[batch_first] = torch.from_numpy(found[steps < self._sorted]).to(self._device)
        return self._found[batch_first]


def _placed(rows: Tensor, positions: Tensor, shape: tuple[int, int]) -> Tensor:
    """Rows at their positions among zeros."""
    placed = rows.new_zeros(shape[0] * shape[1], *rows.shape[1:])
    # In place: zeros that autograd copies cost more than the whole backward pass of a small layer.
    placed.index_copy_(0, positions, rows)
    return placed.view(*shape, *rows.shape[1:])


def _nothing_of(values: Tensor) -> Tensor:
    """Zeros, of which values still have a gradient, of zeros."""
    return values.masked_fill(torch.ones((), dtype=torch.bool, device=values.device), 0)


@_unseen
def checked_lengths(name: str, lengths: Tensor | Sequence[int], B: int, T: int) -> NDArray[np.int64]:
    """Lengths as whole numbers.

    Raises:
        ValueError: for lengths that are no B whole numbers from 0 to T.
    """
    given: Any = lengths.detach().cpu() if isinstance(lengths, Tensor) else lengths
    found: NDArray[Any] | None
    try:
        found = np.asarray(given)
    except (TypeError, ValueError):  # pieces of several lengths, say
        found = None
    whole = found is not None and (found.dtype.kind in "iu" or found.size == 0)
    if found is None or not whole or found.shape != (B,) or not ((found >= 0) & (found <= T)).all():
        came = f"{given!r:.60}" if found is None or found.dtype.kind == "O" else f"{found.tolist()!r:.60}"
        raise ValueError(f"{name}: lengths: expected {B} whole numbers from 0 to {T}, got {came}")
    return found.astype(np.int64)
