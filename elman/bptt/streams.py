"""Batches for truncated BPTT: long sequences in chunks, with the state carried from chunk to chunk."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from elman.bptt._rows import RowWalk, Segment, assign, check_rank, check_world_size, cut, detect_rank
from elman.bptt._sequences import ArrayOrTuple, as_indexable, check_sequences, paddings_for, parts_of, stack_spans
from elman.engine.torch_private import tree_map, tree_map_only
from elman.io.validate import check_whole, whole


class Chunk(NamedTuple):
    """The next T steps of B rows; each row reads one sequence.

    Attributes:
        values: (T, B, ...), or a tuple of such if sequences are tuples; for a layer with batch_first, transpose them.
        lengths: (B,), how many steps of each row are real; padding follows. 0 for a row without a sequence.
        fresh: (B,), whether a sequence begins with this chunk; otherwise the row continues that of the chunk before.

    >>> chunk = Chunk(torch.zeros(3, 2, 1), lengths=torch.tensor([3, 1]), fresh=torch.tensor([False, True]))
    >>> chunk.mask.int()
    tensor([[1, 1],
            [1, 0],
            [1, 0]], dtype=torch.int32)
    """

    values: Any
    lengths: Tensor
    fresh: Tensor

    @property
    def mask(self) -> Tensor:
        """(T, B), True at real steps and False at padding."""
        values = self.values[0] if isinstance(self.values, tuple) else self.values
        return torch.arange(len(values), device=self.lengths.device).unsqueeze(1) < self.lengths

    def carry(self, state: Any, start: Any = None) -> Any:
        """Return the initial state of this chunk: the carried one, detached, but `start` where a sequence begins.

        Args:
            state: the final state of the chunk before, any nesting of tuples of tensors whose last axes are (B, H);
                None for the first chunk.
            start: the state that sequences begin from, nested as `state`, with B = 1 or without the batch axis; it is
                not detached, so that it can be learned. None for zeros.

        Returns:
            The state; None if both are None, which layers take for zeros.

        Raises:
            ValueError: if the batch size of the state is not that of the chunk.

        >>> chunk = Chunk(torch.randn(7, 2, 3), torch.tensor([7, 4]), fresh=torch.tensor([False, True]))
        >>> chunk.carry((torch.ones(1, 2, 3), torch.ones(2, 3)))[0]
        tensor([[[1., 1., 1.],
                 [0., 0., 0.]]])
        """
        rows = (len(self.fresh), 1)
        if state is None:
            return tree_map_only(Tensor, lambda part: part.expand(torch.broadcast_shapes(part.shape, rows)), start)

        def carry_part(carried: Tensor, first: Tensor | None = None) -> Tensor:
            if carried.dim() < 2 or carried.shape[-2] != len(self.fresh):
                raise ValueError(
                    f"carry: state: expected batch size {len(self.fresh)} in the second-to-last axis, got shape "
                    f"{tuple(carried.shape)}"
                )
            fresh = self.fresh.to(carried.device).unsqueeze(-1)
            return torch.where(fresh, carried.new_zeros(()) if first is None else first, carried.detach())

        return tree_map(carry_part, state) if start is None else tree_map(carry_part, state, start)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Chunk":
        """Return a copy of the chunk on a device, as `torch.Tensor.to` does.

        Args:
            device: the device.
            non_blocking: copy from pinned memory while the program goes on.
        """
        return tree_map(lambda value: value.to(device, non_blocking=non_blocking), self)  # type: ignore[no-any-return]


class Stream(IterableDataset[Chunk]):
    """The chunks that `stream` returns, in order: an iterable data set of torch, which can be indexed too.

    `len` is the number of chunks, and `stream[i]` is always the same chunk. `state_dict` says how many have been
    yielded; after `load_state_dict` the next loop begins behind them. Save the state of the layer with it.

    Args:
        sequences: all with the same dtypes and trailing shapes.
        rows: the segments that each row reads, in order.
        steps: T, of a chunk.
        length: number of chunks.
        padding: for each part of a sequence.
        world_size: as detected from torch.distributed; None if the caller passed it.

    >>> chunks = stream(torch.arange(6.0), batch=2, steps=2)
    >>> len(chunks)
    2
    >>> chunks[0].values, chunks[1].values
    (tensor([[0., 3.],
            [1., 4.]]), tensor([[2., 5.],
            [0., 0.]]))
    >>> for chunk in chunks:
    ...     position = chunks.state_dict()
    ...     break
    >>> chunks.load_state_dict(position)
    >>> next(iter(chunks)).values[0]
    tensor([2., 5.])
    """

    def __init__(
        self,
        sequences: Sequence[ArrayOrTuple],
        rows: Sequence[Sequence[Segment]],
        steps: int,
        length: int,
        padding: Sequence[float],
        world_size: int | None,
    ) -> None:
        super().__init__()
        self._sequences, self._rows, self._steps, self._length = sequences, rows, steps, length
        self._walk = RowWalk(rows, steps, length)
        self._padding, self._world_size = padding, world_size
        self._first = self._next = 0

    @property
    def rows(self) -> int:
        """B, the number of rows."""
        return len(self._rows)

    def part(self, rank: int, world_size: int) -> "Stream":
        """Return the stream of some rows: rank, rank + world_size, rank + 2 * world_size, ...

        It has equally many chunks, and begins at the first. If this stream has the rows of all processes, those are the
        rows of a process, as `stream(..., rank=rank, world_size=world_size)` assigns them.

        Args:
            rank: index of the process.
            world_size: number of processes.

        Raises:
            ValueError: unless 0 <= rank < world_size, or if there are no such rows.

        >>> chunks = stream(torch.arange(6.0), batch=2, steps=2)
        >>> [chunks.part(rank, 2)[0].values.flatten().tolist() for rank in (0, 1)]
        [[0.0, 1.0], [3.0, 4.0]]
        """
        rank, world_size = check_rank(rank, world_size)
        if rank >= self.rows:
            raise ValueError(f"stream: part: expected a rank below {self.rows}, the number of rows; got {rank}")
        rows = self._rows[rank::world_size]
        return Stream(self._sequences, rows, self._steps, self._length, self._padding, self._world_size)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Chunk:
        if not 0 <= index < len(self):
            raise IndexError(index)
        check_world_size(self._world_size)
        spans, lengths, fresh = self._walk.spans(index)
        sequences = {k: self._sequences[k] for k in dict.fromkeys(sequence for sequence, _, _ in spans)}
        values = tuple(
            stack_spans(dict(zip(sequences, arrays, strict=True)), spans, self._steps, padding)
            for arrays, padding in zip(zip(*map(parts_of, sequences.values()), strict=True), self._padding, strict=True)
        )
        return Chunk(
            values if isinstance(sequences[spans[0][0]], tuple) else values[0],
            torch.from_numpy(lengths),
            torch.from_numpy(fresh),
        )

    def __iter__(self) -> Iterator[Chunk]:
        # A DataLoader takes chunks from its workers in turn, so worker i of n makes chunks i, i + n, i + 2n, ...
        worker = get_worker_info()
        worker_id, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        first, self._first = self._first, 0
        for index in range(first + worker_id, len(self), workers):
            self._next = min(index - worker_id + workers, len(self))
            yield self[index]
        self._next = 0

    def state_dict(self) -> dict[str, int]:
        """Return how many chunks have been yielded."""
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Begin the next loop behind the chunks that `state` counts.

        Args:
            state: as `state_dict` returns it.

        Raises:
            ValueError: if this stream has fewer chunks, or for another kind of state.
        """
        index = whole(state.get("next"))
        if index is None or not 0 <= index <= len(self):
            raise ValueError(
                f"stream: state: expected a state_dict of the same stream, with next from 0 to {len(self)}; "
                f"got {dict(state)!r:.60}"
            )
        self._first = self._next = index


def stream(
    sequences: ArrayOrTuple | Iterable[ArrayOrTuple],
    batch: int,
    steps: int,
    *,
    drop_last: bool = False,
    padding: float | Sequence[float] = 0,
    rank: int | None = None,
    world_size: int | None = None,
) -> Stream:
    """Split long sequences into chunks for truncated BPTT, with the state carried from each chunk to the next.

    One sequence is cut into B contiguous parts, one for each row of the batch. Several sequences are distributed over B
    rows: each row reads the next sequence when its own has ended. Chunks are made on demand: of an array mapped from a
    file (`numpy.memmap`), only the chunk is read.

    With Lightning, return the stream itself, or `DataLoader(stream, batch_size=None)`, in `train_dataloader`. A
    `DataLoader` may have any number of workers; the chunks come in order.

    Williams and Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories",
    Neural Computation 2 (1990).

    Args:
        sequences: a tensor or array (T, ...); or several of any lengths, in a list or another iterable. Each may be a
            tuple of arrays that belong together step by step: (inputs, targets). Sequences in an object with `len` and
            indices are read by index when they are needed; those of any other iterable are kept in a list.
        batch: B, number of rows.
        steps: T, of each chunk.
        drop_last: drop incomplete chunks: of one sequence, the last steps of each part; of several, the chunks from
            which on a row is without a sequence.
        padding: value behind the real steps; or one for each part of a tuple: (0, -100), -100 for targets that
            cross_entropy is to ignore.
        rank: index of this process. Each process has B rows of its own, and all have equally many chunks; the last ones
            may be without a real step: a sum over its steps is zero, a mean is NaN. None: from torch.distributed, if it
            is initialized.
        world_size: number of processes.

    Returns:
        The chunks, each with `values`, `lengths`, `mask` and `fresh`, and with `carry` for the initial state.

    Raises:
        TypeError: for what is not a sequence.
        ValueError: if sequences differ in dtype or trailing shape, or fill no chunk; for an invalid number.
        RuntimeError: in a loop, if torch.distributed has been initialized since, for several processes.

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
    is_single = isinstance(sequences, Tensor | np.ndarray | tuple)
    indexable: Any = [sequences] if is_single else as_indexable(sequences)
    lengths = check_sequences(indexable)
    detected = detect_rank() if rank is None and world_size is None else None
    process, processes = detected or check_rank(rank, world_size)
    rows = batch * processes
    if is_single:
        segments = cut(lengths[0], rows, steps, drop_last)
    else:
        segments = [Segment(0, k, 0, T) for k, T in enumerate(lengths)]
    assigned, length = assign(segments, rows, steps, drop_last)
    if length == 0:
        full = f" to fill {rows} rows" if drop_last else ""
        raise ValueError(
            f"stream: sequences: expected more steps{full}, got {sum(lengths)} in {len(lengths)} sequences"
        )
    paddings = paddings_for(indexable[0], padding)
    return Stream(indexable, assigned[process::processes], steps, length, paddings, detected and processes)
