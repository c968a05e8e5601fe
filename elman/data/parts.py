"""The parts of a split: examples indexed while they are read, and recorded while they are encoded.

Examples may be more than memory takes, so that each walk over them costs time. What a split needs is collected as they
are read; what a run keeps to recognize them is collected as they are encoded.
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
    """Stored examples, and what a split needs to know of them.

    Args:
        examples: read once.
        store: keeps them.
        label: of an example, for splits that are stratified by labels; None: there are none.
        hashes: whether the content of examples is compared.

    Attributes:
        contents: their content and their groups.
        labels: of each.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        store: Callable[[Iterable[Any]], Sequence[Any]],
        label: Callable[[Example], Hashable] | None = None,
        hashes: bool = True,
    ) -> None:
        self.contents, self.labels = ContentIndex(), list[Hashable]()
        known = dict[Hashable, Hashable]()  # equal labels are one object

        def labelled(examples: Iterable[Example], label: Callable[[Example], Hashable]) -> Iterator[Example]:
            for example in examples:
                name = label(example)
                self.labels.append(known.setdefault(name, name))
                yield example

        collected = self.contents.collect(examples) if hashes else examples
        items = store(labelled(collected, label) if label else collected)
        super().__init__(items, np.arange(len(items)))


class Part(Subset[Example]):
    """Some of the examples of a store, by their numbers."""

    def __init__(self, examples: ExampleStore, numbers: Sequence[int] | NDArray[np.int64]) -> None:
        super().__init__(examples, numbers)
        self.numbers, self._contents = self._numbers, examples.contents

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Of the content of each example."""
        return self._contents.hashes[self.numbers]

    def inputs(self, once: bool) -> int:
        """How many inputs the examples have; `once`: copies count once."""
        return len(np.unique(self.hashes)) if once else len(self)

    def repeated(self, other: "Part", once: bool) -> int:
        """How many examples have the same content as one of another part; `once`: copies count once."""
        own = np.unique(self.hashes) if once else self.hashes
        return int(np.isin(own, other.hashes).sum())


class Splits(NamedTuple):
    """To learn from, to choose by, to be scored on."""

    train: Part
    validation: Part
    test: Part


class SplitRecord:
    """What a run keeps of its examples, to recognize them. Walk all parts, in the order of `Splits`."""

    def __init__(self) -> None:
        self._digest, self._table = hashlib.sha256(), io.StringIO()
        self._rows = csv.writer(self._table, lineterminator="\n")
        self._rows.writerow(("part", "number", "name"))

    def walk(self, name: str, part: Part) -> Iterator[Example]:
        """The examples of a part; they are recorded as they pass."""
        for number, example in zip(part.numbers.tolist(), part, strict=True):
            for value in (example.input, example.target):
                self._digest.update(_bytes(value))
            self._rows.writerow((name, number, example.name))
            yield example
        self._digest.update(b"|")

    @property
    def sha256(self) -> str:
        """Of all inputs and targets, and how they are split."""
        return self._digest.hexdigest()

    @property
    def table(self) -> str:
        """The text of split.csv: the part, the number and the name of each example."""
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
