"""Input layouts: padded or packed, batched or not; converts between the layout of the caller and that of the engine."""

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


def _untraced(function: Any) -> Any:
    """Hide index computations in NumPy from torch.compile and from the transforms of torch.func."""
    function._torchdynamo_disable = True  # what torch.compiler.disable does, without importing the compiler

    @wraps(function)
    def wrapper(*arguments: Any) -> Any:
        if torch.compiler.is_compiling() or not in_torch_func():
            return function(*arguments)
        with without_transforms():
            return function(*arguments)

    return wrapper


class SequenceLayout:
    """(T, B, D), (B, T, D), or (T, D) without a batch; every sequence has T steps.

    Args:
        input: a tensor of one of these shapes.
        batch_first: whether a batched input is (B, T, D).
    """

    lengths: Tensor | None = None  # (B,), lengths of the sequences, if the engine gets padded rows
    sizes: Tensor | None = None  # (T,), sequences still active at each step, if the engine gets packed rows
    is_empty = False  # whether all sequences have length zero

    def __init__(self, input: Tensor, batch_first: bool) -> None:
        self.batched, self.batch_first = input.dim() == 3, batch_first
        self.T = input.shape[1 if self.batched and batch_first else 0]
        self.B = input.shape[0 if batch_first else 1] if self.batched else 1

    def to_rows(self, input: Tensor) -> Tensor:
        """Convert the input to the layout of the engine: (T, B, D), or packed (N, D)."""
        if not self.batched:
            return input.unsqueeze(1)
        return input.transpose(0, 1) if self.batch_first else input

    def from_rows(self, rows: Tensor) -> Any:
        """Convert outputs of the engine to the layout of the input."""
        if not self.batched:
            return rows.squeeze(1)
        return rows.transpose(0, 1) if self.batch_first else rows

    def pad(self, rows: Tensor) -> Tensor:
        """Convert values of the engine to (T, B, ...), with zeros behind the end of each sequence."""
        return rows

    def to_engine_state(self, state: Tensor) -> Tensor:
        """Convert a state (..., B, H), or (..., H) without a batch, to (..., B, H) in the order of the engine."""
        return state if self.batched else state.unsqueeze(-2)

    def from_engine_state(self, state: Tensor, initial: Tensor) -> Tensor:
        """Convert a final state of the engine to the layout of the caller; `initial` is the engine's initial state."""
        return state if self.batched else state.squeeze(-2)

    def reverse(self, rows: Tensor) -> Tensor:
        """Reverse every sequence in time, each from its own end."""
        return rows.flip(0)

    def expand(self, values: Tensor) -> Tensor:
        """Broadcast values of each sequence, (B, ...), to its rows."""
        return values.unsqueeze(0)


class MaskedLayout(SequenceLayout):
    """Padded input with the length of each sequence as a tensor, whose values torch.export does not know.

    Args:
        input: (T, B, D), (B, T, D) or (T, D).
        lengths: (B,), whole numbers from 0 to T.
        batch_first: whether a batched input is (B, T, D).
    """

    def __init__(self, input: Tensor, lengths: Tensor, batch_first: bool) -> None:
        super().__init__(input, batch_first)
        self.lengths = lengths
        self._steps = torch.arange(self.T, device=input.device).unsqueeze(1)
        self._remaining = lengths - self._steps  # (T, B), steps left in each sequence, the current one included

    @override
    def to_rows(self, input: Tensor) -> Tensor:
        # Padding may hold anything, NaN too: the engine reads zeros there.
        return super().to_rows(input).masked_fill((self._remaining <= 0).unsqueeze(-1), 0)

    @override
    def reverse(self, rows: Tensor) -> Tensor:
        steps = torch.where(self._remaining > 0, self._remaining - 1, self._steps)
        return rows.gather(0, steps.view(*steps.shape, *[1] * (rows.dim() - 2)).expand(rows.shape))


class PackedLayout(SequenceLayout):
    """A torch.nn.utils.rnn.PackedSequence."""

    def __init__(self, input: PackedSequence) -> None:
        self.batched, self.input = True, input
        self.sizes: Tensor = input.batch_sizes
        self.T, self.B = len(self.sizes), int(self.sizes[0])

    @override
    def to_rows(self, input: Any) -> Tensor:
        return input.data  # type: ignore[no-any-return]

    @override
    def from_rows(self, rows: Tensor) -> Any:
        return self.input._replace(data=rows)

    @override
    def pad(self, rows: Tensor) -> Tensor:
        order = self.input.sorted_indices
        sequences = self._sequences if order is None else order[self._sequences.to(order.device)]
        positions = self._steps.to(rows.device) * self.B + sequences.to(rows.device)
        return _scatter(rows, positions, (len(self.sizes), self.B))

    @override
    def to_engine_state(self, state: Tensor) -> Tensor:
        order = self.input.sorted_indices  # the longest sequence first
        return state if order is None else state.index_select(-2, order)

    @override
    def from_engine_state(self, state: Tensor, initial: Tensor) -> Tensor:
        inverse_order = self.input.unsorted_indices
        return state if inverse_order is None else state.index_select(-2, inverse_order)

    @override
    def reverse(self, rows: Tensor) -> Tensor:
        positions = self._reversed_positions
        return rows.index_select(0, positions.to(rows.device))

    @override
    def expand(self, values: Tensor) -> Tensor:
        sequences = self._sequences
        return values.index_select(0, sequences.to(values.device))

    @cached_property
    @_untraced
    def _offsets(self) -> NDArray[np.int64]:
        """The first row of each step."""
        sizes: NDArray[np.int64] = self.sizes.numpy()
        offsets: NDArray[np.int64] = np.cumsum(sizes) - sizes
        return offsets

    @cached_property
    @_untraced
    def _sequences(self) -> Tensor:
        """(N,), the sequence of each row, as an index into the sequences sorted by length."""
        return torch.from_numpy(np.arange(int(self.sizes.sum())) - np.repeat(self._offsets, self.sizes.numpy()))

    @cached_property
    @_untraced
    def _steps(self) -> Tensor:
        """(N,), the step of each row."""
        return torch.from_numpy(np.repeat(np.arange(len(self.sizes)), self.sizes.numpy()))

    @cached_property
    @_untraced
    def _reversed_positions(self) -> Tensor:
        """(N,), for each row, the row of the same sequence at step length - 1 - step."""
        sequences, steps = self._sequences.numpy(), self._steps.numpy()
        lengths = np.searchsorted(-self.sizes.numpy(), -np.arange(int(self.sizes[0])), side="left")
        return torch.from_numpy(self._offsets[lengths[sequences] - 1 - steps] + sequences)


class RaggedLayout(PackedLayout):
    """Padded input with the length of each sequence; the engine gets the rows packed.

    Args:
        input: (T, B, D), (B, T, D) or (T, D).
        lengths: (B,), whole numbers from 0 to T.
        batch_first: whether a batched input is (B, T, D).
    """

    @_untraced
    def __init__(self, input: Tensor, lengths: NDArray[np.int64], batch_first: bool) -> None:
        SequenceLayout.__init__(self, input, batch_first)
        self.is_empty = not bool(lengths.any())
        # The engine needs at least one step: if all sequences are empty, it runs one whose results are zeroed.
        lengths = np.maximum(lengths, int(self.is_empty))
        self._sorted_indices = np.argsort(-lengths, kind="stable")
        self._sorted_lengths = lengths[self._sorted_indices]
        self.sizes = torch.from_numpy(np.searchsorted(-self._sorted_lengths, -np.arange(self._sorted_lengths[0])))
        self._device, self._position_cache = input.device, dict[bool, Tensor]()

    @override
    def to_rows(self, input: Tensor) -> Tensor:
        positions = self._positions(self.batch_first)
        rows = (input.flatten(0, 1) if self.batched else input).index_select(0, positions)
        return _zeroed(rows) if self.is_empty else rows

    @override
    def from_rows(self, rows: Tensor) -> Tensor:
        if not self.batched:
            return self.pad(rows).squeeze(1)
        return self._pad_rows(rows, self.batch_first)

    @override
    def pad(self, rows: Tensor) -> Tensor:
        return self._pad_rows(rows, batch_first=False)

    @override
    def to_engine_state(self, state: Tensor) -> Tensor:
        order = self._order
        return SequenceLayout.to_engine_state(self, state).index_select(-2, order)

    @override
    def from_engine_state(self, state: Tensor, initial: Tensor) -> Tensor:
        if self.is_empty:
            state = _zeroed(state) + initial
        inverse_order = self._inverse_order
        return SequenceLayout.from_engine_state(self, state.index_select(-2, inverse_order), initial)

    def _pad_rows(self, rows: Tensor, batch_first: bool) -> Tensor:
        positions, shape = self._positions(batch_first), (self.B, self.T) if batch_first else (self.T, self.B)
        return _scatter(_zeroed(rows) if self.is_empty else rows, positions, shape)

    @cached_property
    @_untraced
    def _order(self) -> Tensor:
        return torch.from_numpy(self._sorted_indices).to(self._device)

    @cached_property
    @_untraced
    def _inverse_order(self) -> Tensor:
        return torch.from_numpy(np.argsort(self._sorted_indices)).to(self._device)

    @_untraced
    def _positions(self, batch_first: bool) -> Tensor:
        """(N,), the position of each row in the padded input with its first two axes flattened."""
        if batch_first not in self._position_cache:
            sequences, steps = self._sorted_indices, np.arange(len(self.sizes))[:, None]
            positions = sequences * self.T + steps if batch_first else steps * self.B + sequences
            is_real = steps < self._sorted_lengths
            self._position_cache[batch_first] = torch.from_numpy(positions[is_real]).to(self._device)
        return self._position_cache[batch_first]


def _scatter(rows: Tensor, positions: Tensor, shape: tuple[int, int]) -> Tensor:
    """Copy rows to their positions in a tensor of zeros."""
    padded = rows.new_zeros(shape[0] * shape[1], *rows.shape[1:])
    # In place: the copy of the zeros by `index_copy` costs more than the whole backward pass of a small layer.
    padded.index_copy_(0, positions, rows)
    return padded.view(*shape, *rows.shape[1:])


def _zeroed(values: Tensor) -> Tensor:
    """Zeros that depend on `values` in autograd, so that these have a gradient, of zeros."""
    return values.masked_fill(torch.ones((), dtype=torch.bool, device=values.device), 0)


@_untraced
def check_lengths(name: str, lengths: Tensor | Sequence[int], B: int, T: int) -> NDArray[np.int64]:
    """Convert lengths to an integer array (B,).

    Raises:
        ValueError: if they are not B whole numbers from 0 to T; for a tensor on the meta device.
    """
    if isinstance(lengths, Tensor) and lengths.is_meta:
        raise ValueError(
            f"{name}: lengths: expected a tensor with values, got one on meta; pass a list, or lengths of the CPU"
        )
    values: Any = lengths.detach().cpu() if isinstance(lengths, Tensor) else lengths
    array: NDArray[Any] | None
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # for example, nested lists of unequal length
        array = None
    is_integer = array is not None and (array.dtype.kind in "iu" or array.size == 0)
    if array is None or not is_integer or array.shape != (B,) or not ((array >= 0) & (array <= T)).all():
        got = f"{values!r:.60}" if array is None or array.dtype.kind == "O" else f"{array.tolist()!r:.60}"
        raise ValueError(f"{name}: lengths: expected {B} integers from 0 to {T}, got {got}")
    return array.astype(np.int64)
