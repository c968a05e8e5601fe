"""Examples in files of any size: which are for training, and in which order they are read.

A hash of the content of an example, not its place, decides whether it is held out, so copies of a text are in one
part, and no list of all rows is needed. One pass over all rows, the survey, counts what every block has for training;
with these numbers, any position of an epoch is found without reading what is before it.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.examples import Example, check_texts
from elman.data.row_files import RowFiles, changed
from elman.data.splits import SHARE, fingerprint
from elman.errors import BadInput

MAX_HELD_OUT = 10_000  # rows of a part that is held out, on average; fewer if they are long
HELD_OUT_BYTES = 1 << 26  # approximate size of such a part
MAX_SAMPLE = 100_000  # rows of the sample, on average
MAX_LABELS = 100_000  # more are no labels
MAX_NOTES = 8  # unusable rows that are named

Place = tuple[int, int]  # a block and a row in it
Placed = tuple[Place, Example]


def no_labels(example: Example) -> Iterable[Hashable]:
    """Return no labels."""
    return ()


@dataclass(frozen=True)
class RowReader:
    """Makes examples of the rows of tables.

    Attributes:
        columns: returns the names of the columns, by the option that names each, from the options of the task.
        to_example: makes an example of the values of a row, the name of its place and the options of the task. Raises
            `BadInput` for an unusable row.
        labels: returns what a codec must know of an example: the sample has an example of each.
    """

    columns: Callable[[Any], dict[str, str]]
    to_example: Callable[..., Example]
    labels: Callable[[Example], Iterable[Hashable]] = no_labels


class RowStream:
    """The examples of files, and which part each belongs to.

    Args:
        files: the files.
        to_example: makes an example of the values of a row and the name of its place, as in `RowReader`.
        parts: the parts to hold out: "validation", "test". Each gets a tenth of the rows, but at most `MAX_HELD_OUT`.
        seed: the random seed of the parts.
        sample_bytes: approximate size of the sample of the training part.
        skip_bad: whether to leave out unusable rows; None: not, and the task has no such option.

    Attributes:
        blocks_of_group: number of blocks of each row group, (G,).
        first_block: number of the first block of each row group, (G,).
    """

    def __init__(
        self,
        files: RowFiles,
        to_example: Callable[..., Example],
        parts: Sequence[str],
        seed: int,
        sample_bytes: int,
        skip_bad: bool | None,
    ) -> None:
        self.files, self.parts = files, parts
        self._to_example, self._seed, self._skip_bad = to_example, seed, skip_bad
        held_out = min(1 / SHARE, min(MAX_HELD_OUT, HELD_OUT_BYTES // files.row_bytes) / files.rows)
        sample = min(MAX_SAMPLE, sample_bytes // files.row_bytes) / files.rows
        self._names = [*parts, "sample", "train"]
        self._limits = [*(held_out * (k + 1) for k in range(len(parts))), held_out * len(parts) + sample]
        self.blocks_of_group = files.blocks_of_groups()
        self.first_block = np.cumsum(self.blocks_of_group) - self.blocks_of_group

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return int(self.blocks_of_group.sum())

    def part_of(self, example: Example) -> tuple[str, int]:
        """Return the part of an example, one of `parts`, "sample" or "train", and the hash that decides it.

        The sample is a part of the training part. An example without content, such as an empty line, is never held out.
        """
        content = fingerprint((self._seed, example.input))
        return self._names[bisect_right(self._limits, content / 2**64)] if example.input else "train", content

    def read(
        self, groups: Iterable[int], start: int = 0, tell: Callable[[BadInput], Any] | None = None
    ) -> Iterator[tuple[int, list[tuple[int, Example]]]]:
        """Read row groups.

        Args:
            groups: their indices.
            start: index of the first block to read in the first of them.
            tell: called with the error of each row that is left out.

        Yields:
            The number of each block, and its examples with their rows in the block.

        Raises:
            BadInput: for a file that cannot be read; for an unusable row, without `skip_bad`.
        """
        for group in groups:
            for index, rows in enumerate(self.files.read(group, start), start):
                yield int(self.first_block[group]) + index, list(self._usable(group, index, rows, tell))
            start = 0

    def _usable(
        self, group: int, block: int, rows: Iterable[tuple[Any, ...]], tell: Callable[[BadInput], Any] | None
    ) -> Iterator[tuple[int, Example]]:
        for i, values in enumerate(rows):
            name = self.files.place(group, block, i)
            try:
                example = self._to_example(*values, name)
                check_texts(name, example.input, example.target)
            except BadInput as error:
                if self._skip_bad is None:
                    raise
                if not self._skip_bad:
                    raise BadInput(f"{error}; pass --skip-bad to skip it") from None
                if tell:
                    tell(error)
            else:
                yield i, example

    def training(self, groups: Iterable[int], start: int = 0) -> Iterator[tuple[int, list[Example]]]:
        """Read row groups as `read`, and yield the number of each block with its examples for training."""
        for block, examples in self.read(groups, start):
            yield block, [example for _, example in examples if self.part_of(example)[0] not in self.parts]

    def groups_of(self, rank: int, world_size: int) -> range:
        """Return the row groups that a process surveys: rank, rank + world_size, ..."""
        return range(rank, len(self.files.groups), world_size)

    def name_of(self, block: int) -> str:
        """Return the name of the file of a block."""
        group = int(np.searchsorted(self.first_block, block, "right")) - 1
        return self.files.files[self.files.groups[group].file].name


@dataclass
class Survey:
    """What one pass over rows has counted and collected: its size depends on the number of blocks, not of rows.

    Attributes:
        sizes: units (examples, characters) for training in each block, (K,); 0 for blocks of other processes.
        digests: hash of the examples of each block, (K,).
        examples: number of examples for training.
        skipped: number of unusable rows.
        notes: the first of their errors.
        collected: examples of each held-out part and of the sample, by their content, of which the first copy counts.
        labels: the first example for training with each label.
    """

    sizes: NDArray[np.int64]
    digests: NDArray[np.uint64]
    examples: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)
    collected: dict[str, dict[int, Placed]] = field(default_factory=dict)
    labels: dict[Hashable, Placed] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        stream: RowStream,
        groups: Iterable[int],
        labels: Callable[[Example], Iterable[Hashable]],
        size: Callable[[Example], int] = lambda example: 1,
    ) -> "Survey":
        """Read row groups, in ascending order.

        Args:
            stream: the rows.
            groups: the row groups.
            labels: as in `RowReader`.
            size: returns the number of units of an example.
        """
        survey = cls(np.zeros(stream.blocks, np.int64), np.zeros(stream.blocks, np.uint64))
        survey.collected = {part: {} for part in (*stream.parts, "sample")}

        def skip(error: BadInput) -> None:
            survey.skipped += 1
            if len(survey.notes) < MAX_NOTES:
                survey.notes.append(str(error))

        for block, examples in stream.read(groups, tell=skip):
            digest = hashlib.blake2b(digest_size=8)
            for row, example in examples:
                part, content = stream.part_of(example)
                digest.update(b"%d %d " % (content, fingerprint(example.target)))
                placed = ((block, row), example)
                if part in survey.collected:
                    survey.collected[part].setdefault(content, placed)
                if part not in stream.parts:
                    survey.sizes[block] += size(example)
                    survey.examples += 1
                    for label in labels(example):
                        survey.labels.setdefault(label, placed)
            if len(survey.labels) > MAX_LABELS:
                raise BadInput(
                    f"{stream.name_of(block)}: expected at most {MAX_LABELS:,} different labels, got more; is the "
                    "column of the labels the right one?"
                )
            survey.digests[block] = int.from_bytes(digest.digest())
        return survey

    @classmethod
    def merged(cls, surveys: Sequence["Survey"]) -> "Survey":
        """Return the survey of all row groups from those of some each, whatever the processes that made them."""
        first = surveys[0]
        sizes, digests = (sum(getattr(part, name) for part in surveys) for name in ("sizes", "digests"))
        merged = cls(np.asarray(sizes), np.asarray(digests))
        merged.examples, merged.skipped = (sum(getattr(part, n) for part in surveys) for n in ("examples", "skipped"))
        merged.notes = [line for part in surveys for line in part.notes][:MAX_NOTES]
        merged.collected = {name: _earliest([part.collected[name] for part in surveys]) for name in first.collected}
        merged.labels = _earliest([part.labels for part in surveys])
        return merged

    @property
    def sha256(self) -> str:
        """Digest of all examples and their order."""
        return hashlib.sha256(self.digests.astype("<u8").tobytes()).hexdigest()

    def part(self, name: str) -> list[Example]:
        """Return the examples of a part that is held out, in order."""
        return _in_order(self.collected[name].values())

    def sample(self) -> list[Example]:
        """Return a sample of the training part, in order, which has each label."""
        return _in_order(dict([*self.collected["sample"].values(), *self.labels.values()]).items())


def _earliest(parts: Sequence[dict[Any, Placed]]) -> dict[Any, Placed]:
    """Merge dictionaries; of several examples with a key, the first in the files counts."""
    merged = dict[Any, Placed]()
    for part in parts:
        for key, placed in part.items():
            if key not in merged or placed[0] < merged[key][0]:
                merged[key] = placed
    return merged


def _in_order(placed: Iterable[Placed]) -> list[Example]:
    return [example for _, example in sorted(placed, key=lambda item: item[0])]


class EpochOrder:
    """The order of an epoch: row groups in random order, and their rows as they are.

    Args:
        stream: the rows.
        sizes: units for training in each block, (K,).
        seed: the random seed.
        epoch: number of the epoch, from 0.
    """

    def __init__(self, stream: RowStream, sizes: NDArray[np.int64], seed: int, epoch: int) -> None:
        self._stream, self._sizes = stream, sizes
        self._groups = np.random.default_rng((seed, epoch)).permutation(len(stream.files.groups))
        ends = np.cumsum(np.add.reduceat(sizes, stream.first_block)[self._groups])
        self._ends = ends  # units up to the end of each group of this order

    def examples_from(self, unit: int) -> Iterator[tuple[int, list[Example], int]]:
        """Read the examples for training from a position of the epoch on.

        Args:
            unit: the number of units before the position.

        Yields:
            The number of each block, its examples, and how many of their units are before the position.
        """
        position = int(np.searchsorted(self._ends, unit, "right"))
        if position == len(self._groups):
            return
        group = int(self._groups[position])
        first, count = int(self._stream.first_block[group]), int(self._stream.blocks_of_group[group])
        block_ends = np.cumsum(self._sizes[first : first + count])
        skip = unit - int(self._ends[position] - block_ends[-1])
        start = int(np.searchsorted(block_ends, skip, "right"))
        skip -= int(block_ends[start - 1]) if start else 0
        for block, examples in self._stream.training(map(int, self._groups[position:]), start):
            yield block, examples, skip
            skip = 0

    def check(self, block: int, size: int) -> None:
        """Check that a block has as many units as in the survey.

        Raises:
            BadInput: if not: the file has changed.
        """
        if size != self._sizes[block]:
            raise changed(self._stream.name_of(block))
