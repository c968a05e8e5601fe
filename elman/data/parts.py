"""Parts of a split: examples are indexed while they are read, and recorded while they are encoded.

Examples may not fit into memory, so iterating over them is slow. What a split needs is therefore collected while
they are read, and what a run stores to recognize them is collected while they are encoded.
"""

import csv
import hashlib
import io
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.data.disk_list import Subset
from elman.data.examples import Example
from elman.data.splits import ContentIndex


class ExampleStore(Subset[Example]):
    """Stored examples, with the index and labels that a split needs.

    Args:
        examples: the examples; iterated once.
        store: stores the examples and returns them as a sequence.
        label: returns the label of an example, for the split; None means no labels.
        hashes: whether to hash the content of examples.

    Attributes:
        contents: content hashes and groups of the examples.
        labels: label of each example.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        store: Callable[[Iterable[Any]], Sequence[Any]],
        label: Callable[[Example], Hashable] | None = None,
        hashes: bool = True,
    ) -> None:
        self.contents, self.labels = ContentIndex(), list[Hashable]()
        interned = dict[Hashable, Hashable]()  # equal labels are one object

        def collect_labels(examples: Iterable[Example], label: Callable[[Example], Hashable]) -> Iterator[Example]:
            for example in examples:
                value = label(example)
                self.labels.append(interned.setdefault(value, value))
                yield example

        collected = self.contents.collect(examples) if hashes else examples
        items = store(collect_labels(collected, label) if label else collected)
        super().__init__(items, np.arange(len(items)))


class Part(Subset[Example]):
    """The examples of a store at some indices."""

    def __init__(self, examples: ExampleStore, numbers: Sequence[int] | NDArray[np.int64]) -> None:
        super().__init__(examples, numbers)
        self.numbers, self._contents = self._numbers, examples.contents

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Content hash of each example."""
        return self._contents.hashes[self.numbers]

    def inputs(self, once: bool) -> int:
        """Return the number of inputs; with `once`, copies count once."""
        return len(np.unique(self.hashes)) if once else len(self)

    def repeated(self, other: "Part", once: bool) -> int:
        """Return how many examples have the content of an example of another part; with `once`, copies count once."""
        hashes = np.unique(self.hashes) if once else self.hashes
        return int(np.isin(hashes, other.hashes).sum())


class Splits(NamedTuple):
    """Examples for training, validation and test."""

    train: Part
    validation: Part
    test: Part


class SplitRecord:
    """Digest and table by which a run recognizes its examples. Walk all parts, in the order of `Splits`."""

    def __init__(self) -> None:
        self._digest, self._table = hashlib.sha256(), io.StringIO()
        self._rows = csv.writer(self._table, lineterminator="\n")
        self._rows.writerow(("part", "number", "name"))

    def walk(self, name: str, part: Part) -> Iterator[Example]:
        """Iterate over the examples of a part and record them."""
        for number, example in zip(part.numbers.tolist(), part, strict=True):
            for value in (example.input, example.target):
                self._digest.update(_bytes(value))
            self._rows.writerow((name, number, example.name))
            yield example
        self._digest.update(b"|")

    @property
    def sha256(self) -> str:
        """Digest of all inputs and targets and of their split."""
        return self._digest.hexdigest()

    @property
    def table(self) -> str:
        """Text of split.csv: part, number and name of each example."""
        return self._table.getvalue()

    @classmethod
    def of(cls, splits: Splits) -> "SplitRecord":
        """Record examples that are not encoded."""
        record = cls()
        for name, part in splits._asdict().items():
            deque(record.walk(name, part), maxlen=0)
        return record


def _bytes(value: Any) -> bytes:
    return value.tobytes() if hasattr(value, "tobytes") else repr(value).encode("utf-8", "surrogatepass")
