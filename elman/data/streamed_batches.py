"""Batches of examples and of token streams that are read from files while a model is trained.

Every batch is a function of the seed and of its index, so training can resume at any step; batches in order are read
in order. What all processes together read does not depend on their number.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from itertools import islice
from math import gcd, lcm
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elman.bptt import Chunk
from elman.data.batches import Unused
from elman.data.examples import Example
from elman.data.row_stream import EpochOrder, RowStream

LANES = 8  # places of an epoch that are read at the same time; processes share them


class StreamedExamples:
    """Batches of examples, shuffled within a window of rows that is in memory.

    An epoch has the row groups in random order. It is cut into `LANES` equal parts, which are read side by side. The
    next examples of all of them form a window; within it, examples are shuffled and sorted by length, for batches of
    similar length, and batches are shuffled. Example q of a batch of all processes is from lane q modulo `LANES`, and
    process r of W has the examples r, r + W, ..., so it reads the lanes that are r modulo gcd(W, LANES), and no others.

    Args:
        stream: the rows.
        sizes: number of examples for training in each block, (K,).
        batch: batch size of all processes together; that of the end of an epoch may be smaller.
        window: approximate number of examples in a window.
        encode: encodes an example, and returns its number of time steps.
        collate: makes a batch of encoded examples.
        seed: random seed of the order.
        spare: an encoded example, for a process that has none of a batch.
    """

    def __init__(
        self,
        stream: RowStream,
        sizes: NDArray[np.int64],
        batch: int,
        window: int,
        encode: Callable[[Example], tuple[Any, int]],
        collate: Callable[[Sequence[Any]], Any],
        seed: int,
        spare: Any,
    ) -> None:
        self._stream, self._sizes, self._batch, self._seed = stream, sizes, batch, seed
        self._encode, self._collate, self._spare = encode, collate, spare
        self._examples = int(sizes.sum())
        self._window = -(-window // lcm(batch, LANES)) * lcm(batch, LANES)
        self._rank, self._world_size = 0, 1
        self._loaded = (-1, -1)  # epoch and window
        self._rows = dict[int, list[Any]]()  # encoded examples of the window, by lane
        self._order = np.zeros(0, np.int64)  # of the batches of the window
        self._lanes = dict[int, Iterator[tuple[Any, int]]]()

    def part(self, rank: int, world_size: int) -> "StreamedExamples":
        """Return the same batches, but of every batch only the examples of one process.

        Args:
            rank: index of the process.
            world_size: number of processes.
        """
        part = copy(self)
        part._rank, part._world_size = rank, world_size
        part._loaded, part._rows, part._lanes = (-1, -1), {}, {}
        return part

    def __len__(self) -> int:
        return -(-self._examples // self._batch)

    def __getitem__(self, index: int) -> Any:
        epoch, position = divmod(index, len(self))
        window, position = divmod(position, self._window // self._batch)
        if (epoch, window) != self._loaded:
            self._load(epoch, window)
        begin = int(self._order[position]) * self._batch
        end = min(begin + self._batch, self._window, self._examples - window * self._window)
        numbers = range(begin + self._rank, end, self._world_size)
        encoded = [self._rows[q % LANES][q // LANES] for q in numbers]
        return self._collate(encoded) if encoded else Unused(self._collate([self._spare]))

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def _load(self, epoch: int, window: int) -> None:
        """Read a window. If it does not follow the loaded one, find its place in the files."""
        if self._loaded != (epoch, window - 1):
            self._lanes = {}
        first = window * self._window
        rows = min(self._window, self._examples - first)
        divisor = gcd(self._world_size, LANES)
        self._rows = {}  # first, so that memory has one window
        self._loaded = (-1, -1)  # until all is read
        for lane in range(self._rank % divisor, LANES, divisor):
            if lane not in self._lanes:
                self._lanes[lane] = self._read(epoch, lane, first // LANES)
            count = len(range(lane, rows, LANES))
            items = list(islice(self._lanes[lane], count))
            shuffled = np.random.default_rng((self._seed, epoch, window, lane)).permutation(count)
            lengths = np.array([length for _, length in items], np.int64)
            by_length = shuffled[np.argsort(lengths[shuffled], kind="stable")]
            self._rows[lane] = [items[i][0] for i in by_length.tolist()]
        batches = -(-rows // self._batch)
        self._order = np.random.default_rng((self._seed, epoch, window)).permutation(batches)
        self._loaded = (epoch, window)

    def _read(self, epoch: int, lane: int, first: int) -> Iterator[tuple[Any, int]]:
        """Read and encode the examples of a lane from `first` on."""
        order = EpochOrder(self._stream, self._sizes, self._seed, epoch)
        share, longer = divmod(self._examples, LANES)
        begin = lane * share + min(lane, longer)  # the first lanes have one example more
        for block, examples, skip in order.examples_from(begin + first):
            order.check(block, len(examples))
            yield from map(self._encode, examples[skip:])


class StreamedTokens:
    """Chunks of parallel streams of tokens for truncated BPTT, as `elman.data.streams.streams` cuts them in memory.

    The tokens of an epoch are those of all row groups in random order. They are cut into equally long streams, one for
    each row of a batch; a process reads its own rows.

    Args:
        stream: the rows of the files.
        sizes: number of tokens for training in each block, (K,).
        batch: B, number of streams of all processes together.
        bptt: T, steps of a chunk.
        encode: returns the tokens of the examples of a block, (N,).
        seed: random seed of the order.
    """

    def __init__(
        self,
        stream: RowStream,
        sizes: NDArray[np.int64],
        batch: int,
        bptt: int,
        encode: Callable[[list[Example]], NDArray[np.int32]],
        seed: int,
    ) -> None:
        self._stream, self._sizes, self._steps, self._encode, self._seed = stream, sizes, bptt, encode, seed
        self._width = (int(sizes.sum()) - 1) // batch  # tokens of a row; the last ones may not fill a chunk
        self._rows = range(batch)
        self._next = -1  # the chunk that the readers are at
        self._readers = list[_TokenReader]()

    def part(self, rank: int, world_size: int) -> "StreamedTokens":
        """Return the same chunks, but of some rows: rank, rank + world_size, ...

        Args:
            rank: index of the process.
            world_size: number of processes, which divides the number of rows.
        """
        part = copy(self)
        part._rows, part._next, part._readers = self._rows[rank::world_size], -1, []
        return part

    def __len__(self) -> int:
        return max(self._width // self._steps, 0)

    def __getitem__(self, index: int) -> Chunk:
        epoch, position = divmod(index, len(self))
        if index != self._next or position == 0:
            order = EpochOrder(self._stream, self._sizes, self._seed, epoch)
            begins = [row * self._width + position * self._steps for row in self._rows]
            self._readers = [_TokenReader(order, begin, self._encode) for begin in begins]
        self._next = -1  # until all is read
        tokens = np.stack([reader.read(self._steps) for reader in self._readers], 1)  # (T + 1, B)
        self._next = index + 1
        lengths, fresh = torch.full((len(self._rows),), self._steps), torch.full((len(self._rows),), position == 0)
        return Chunk((torch.from_numpy(tokens[:-1].copy()), torch.from_numpy(tokens[1:].copy())), lengths, fresh)

    def __iter__(self) -> Iterator[Chunk]:
        return (self[index] for index in range(len(self)))


class _TokenReader:
    """Reads the tokens of an epoch from a position on."""

    def __init__(self, order: EpochOrder, begin: int, encode: Callable[[list[Example]], NDArray[np.int32]]) -> None:
        self._arrays = self._read(order, begin, encode)
        self._tokens = np.zeros(0, np.int32)

    @staticmethod
    def _read(
        order: EpochOrder, begin: int, encode: Callable[[list[Example]], NDArray[np.int32]]
    ) -> Iterator[NDArray[np.int32]]:
        for block, examples, skip in order.examples_from(begin):
            tokens = encode(examples)
            order.check(block, len(tokens))
            yield tokens[skip:]

    def read(self, steps: int) -> NDArray[np.int32]:
        """Return the next tokens and the one after them, (steps + 1,)."""
        while len(self._tokens) <= steps:
            self._tokens = np.concatenate((self._tokens, next(self._arrays)))
        tokens, self._tokens = self._tokens[: steps + 1], self._tokens[steps:]
        return tokens
