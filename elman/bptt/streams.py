"""Batches for truncated BPTT: long sequences in chunks, with the state carried along."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from elman.bptt._rows import RowWalk, Segment, check_processes, cut, deal, given_processes, processes
from elman.bptt._sequences import One, by_index, lengths_of, paddings_for, parts_of, side_by_side
from elman.engine.torch_private import tree_map, tree_map_only
from elman.numbers import check_whole, whole


class Chunk(NamedTuple):
    """`steps` steps of B rows, each of which is within a sequence of its own.

    values: (T, B, ...), or a tuple of such where a sequence is a tuple; for a layer with batch_first, transpose them.
    lengths: (B,), how many of the steps are real; behind them stands padding. 0 for a row without a sequence.
    fresh: (B,), whether a row begins a sequence with this chunk; else it goes on where the last chunk left it.
    """

    values: Any
    lengths: Tensor
    fresh: Tensor

    @property
    def mask(self) -> Tensor:
        """(T, B), which steps are real."""
        values = self.values[0] if isinstance(self.values, tuple) else self.values
        return torch.arange(len(values), device=self.lengths.device).unsqueeze(1) < self.lengths

    def carry(self, state: Any, start: Any = None) -> Any:
        """The state to begin this chunk from: detached, and anew in the rows where a sequence begins.

        Args:
            state: after the last chunk, in any nesting of tuples of tensors whose last axes are (B, H); None before
                the first chunk.
            start: what a sequence begins from, in the form of the state, with 1 in the place of B or without it; it is
                not detached, so that it can be learned. None: zeros.

        Returns:
            The state; None for None without a start, which every layer takes for zeros.

        Raises:
            ValueError: for a state of another batch.

        >>> chunk = Chunk(torch.randn(7, 2, 3), torch.tensor([7, 4]), fresh=torch.tensor([False, True]))
        >>> chunk.carry((torch.ones(1, 2, 3), torch.ones(2, 3)))[0]
        tensor([[[1., 1., 1.],
                 [0., 0., 0.]]])
        """
        rows = (len(self.fresh), 1)
        if state is None:
            return tree_map_only(Tensor, lambda first: first.expand(torch.broadcast_shapes(first.shape, rows)), start)

        def begun(carried: Tensor, first: Tensor | None = None) -> Tensor:
            if carried.dim() < 2 or carried.shape[-2] != len(self.fresh):
                raise ValueError(
                    f"carry: state: expected {len(self.fresh)} rows in the last axis but one, got shape "
                    f"{tuple(carried.shape)}"
                )
            fresh = self.fresh.to(carried.device).unsqueeze(-1)
            return torch.where(fresh, carried.new_zeros(()) if first is None else first, carried.detach())

        return tree_map(begun, state) if start is None else tree_map(begun, state, start)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Chunk":
        """All of it on a device, as by `torch.Tensor.to`."""
        return tree_map(lambda value: value.to(device, non_blocking=non_blocking), self)  # type: ignore[no-any-return]


class Stream(IterableDataset[Chunk]):
    """What `stream` returns: the chunks in order, to loop over, by index, or as a data set of torch.

    `len` is how many there are, and `stream[i]` is always the same chunk. `state_dict` says how many have been handed
    out, and after `load_state_dict` the next loop begins behind these; save the state of the layer beside it.

    Args:
        sequences: each of one form.
        rows: what each row walks, in order.
        steps: T, of a chunk.
        length: how many chunks.
        padding: for each part of a sequence.
        made_for: how many processes torch.distributed was found to have; None if that was given.
    """

    def __init__(
        self,
        sequences: Sequence[One],
        rows: Sequence[Sequence[Segment]],
        steps: int,
        length: int,
        padding: Sequence[float],
        made_for: int | None,
    ) -> None:
        super().__init__()
        self._sequences, self._steps, self._length = sequences, steps, length
        self._walk = RowWalk(rows, steps, length)
        self._padding, self._made_for = padding, made_for
        self._first = self._next = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Chunk:
        if not 0 <= index < len(self):
            raise IndexError(index)
        check_processes(self._made_for)
        spans, lengths, fresh = self._walk.spans(index)
        sequences = {k: self._sequences[k] for k in dict.fromkeys(sequence for sequence, _, _ in spans)}
        values = tuple(
            side_by_side(dict(zip(sequences, arrays, strict=True)), spans, self._steps, padding)
            for arrays, padding in zip(zip(*map(parts_of, sequences.values()), strict=True), self._padding, strict=True)
        )
        return Chunk(
            values if isinstance(sequences[spans[0][0]], tuple) else values[0],
            torch.from_numpy(lengths),
            torch.from_numpy(fresh),
        )

    def __iter__(self) -> Iterator[Chunk]:
        # A DataLoader takes from its workers in turn: so each makes one chunk of so many.
        worker = get_worker_info()
        this, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        first, self._first = self._first, 0
        for index in range(first + this, len(self), workers):
            self._next = min(index - this + workers, len(self))
            yield self[index]
        self._next = 0

    def state_dict(self) -> dict[str, int]:
        """How many chunks have been handed out."""
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Begin the next loop where another was.

        Raises:
            ValueError: for a place that this stream does not have.
        """
        index = whole(state.get("next"))
        if index is None or not 0 <= index <= len(self):
            raise ValueError(
                f"stream: state: expected what state_dict gave for the same stream, next from 0 to {len(self)}; "
                f"got {dict(state)!r:.60}"
            )
        self._first = self._next = index


def stream(
    sequences: One | Iterable[One],
    batch: int,
    steps: int,
    *,
    drop_last: bool = False,
    padding: float | Sequence[float] = 0,
    rank: int | None = None,
    world_size: int | None = None,
) -> Stream:
    """Walk long sequences in chunks of a few steps, with the state carried from each to the next: truncated BPTT.

    One sequence is cut into B streams, one after the other. Several are dealt to B rows: each row takes the next
    sequence when its own has ended. Chunks are made when they are asked for: of an array that is mapped from a file
    (`numpy.memmap`), no more is read.

    With Lightning, return the stream itself, or `DataLoader(stream, batch_size=None)`, in `train_dataloader`. Of a
    `DataLoader`, any number of workers may make the chunks; they come in order.

    Williams and Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories",
    Neural Computation 2 (1990).

    Args:
        sequences: one, a tensor or array (T, ...); or a list, or anything else to go through, of such, of any lengths.
            In the place of each may stand a tuple of several that belong together step by step: (inputs, targets).
            What has `len` and indices is read by index whenever it is needed; all else is kept in a list.
        batch: B, how many rows.
        steps: T, of each chunk.
        drop_last: leave out what fills no chunk: the last steps of one long sequence; of several, the chunks from
            which on some row is without a sequence.
        padding: behind the steps that are real; or of each part of a tuple: (0, -100), -100 for targets that
            cross_entropy is to ignore.
        rank: which process this is. Each has other rows, B of them, and as many chunks, of which the last may be
            without a real step: a sum over steps is zero then, a mean no number. None: as torch.distributed says, where
            it is initialised.
        world_size: how many processes there are.

    Returns:
        The chunks, each with `values`, `lengths`, `mask` and `fresh`, and with `carry` to make the state ready.

    Raises:
        TypeError: for what is no sequence.
        ValueError: for sequences that are not of one form, or fill no chunk; for an impossible number.
        RuntimeError: in a loop, if torch.distributed was initialised since, for several processes.

    >>> import elman
    >>> layer, readout = elman.GRU(1, 8), torch.nn.Linear(8, 1)
    >>> series = torch.sin(torch.arange(1000.0) / 5).unsqueeze(1)
    >>> state = None
    >>> for chunk in elman.bptt.stream((series[:-1], series[1:]), batch=4, steps=50):
    ...     inputs, targets = chunk.values
    ...     outputs, state = layer(inputs, chunk.carry(state))
    ...     errors = (readout(outputs) - targets).square()[chunk.mask]
    ...     (errors.sum() / chunk.lengths.sum().clamp(min=1)).backward()
    """
    batch, steps = check_whole("stream: batch", batch, 1), check_whole("stream: steps", steps, 1)
    one = isinstance(sequences, Tensor | np.ndarray | tuple)
    given: Any = [sequences] if one else by_index(sequences)
    lengths = lengths_of(given)
    found = processes() if rank is None and world_size is None else None
    this, of = found or given_processes(rank, world_size)
    rows = batch * of
    pieces = cut(lengths[0], rows, steps, drop_last) if one else [Segment(0, k, 0, T) for k, T in enumerate(lengths)]
    dealt, length = deal(pieces, rows, steps, drop_last)
    if length == 0:
        full = f" to fill {rows} rows" if drop_last else ""
        raise ValueError(
            f"stream: sequences: expected more steps{full}, got {sum(lengths)} of {len(lengths)} sequences"
        )
    return Stream(given, dealt[this::of], steps, length, paddings_for(given[0], padding), found and of)
