"""Examples, how they are split, and how a split is known again."""

import hashlib
import os
import re
import sys
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from elman.errors import BadInput

TOLD = 8  # of what is left out, each by itself
_SURROGATE = re.compile("[\\ud800-\\udfff]")
SHARE = 10  # one part in so many is validated on, and one is tested on


class Example(NamedTuple):
    """One of them.

    input: what the model is given, as it was read.
    target: what is to be said of it; None where nobody knows.
    group: examples of one group are never on both sides of a split; None: it stands for itself.
    name: for people: a file, a line of it.
    """

    input: Any
    target: Any = None
    group: Hashable | None = None
    name: str = ""


class Parts(NamedTuple):
    """To learn from, to choose by, to be scored on."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]


def is_files(data: Any) -> TypeGuard[list[Path]]:
    """Whether data are files, and not what Python has in their place."""
    return isinstance(data, list | tuple) and len(data) > 0 and all(isinstance(path, Path) for path in data)


def files_in(data: Any) -> Any:
    """What names files, as a list of these; anything else as it is.

    >>> files_in(["a.csv", "b.csv"]), files_in((["good", "bad"], [1, 0]))
    ([PosixPath('a.csv'), PosixPath('b.csv')], (['good', 'bad'], [1, 0]))
    """
    if isinstance(data, str | os.PathLike):
        return [Path(data)]
    several = isinstance(data, list | tuple) and data and all(isinstance(part, str | os.PathLike) for part in data)
    return [Path(path) for path in data] if several else data


def usable(made: Iterable[Callable[[], Example]], skip_bad: bool, where: str) -> Iterator[Example]:
    """Examples, as they are made; those that cannot be used are told and left out, if these are skipped.

    Args:
        made: makes each, or raises BadInput.
        skip_bad: whether they are skipped.
        where: they come from.

    Raises:
        BadInput: for the first that cannot be used, if they are not skipped; where all were skipped.
    """
    kept = skipped = 0
    for make in made:
        try:
            example = make()
            check_texts(example.name, example.name, example.input, example.target)
        except BadInput as error:
            if not skip_bad:
                raise BadInput(f"{error}; --skip-bad leaves it out") from None
            skipped += 1
            if skipped <= TOLD:
                print(f"{error}; left out", file=sys.stderr)
        else:
            kept += 1
            yield example
    if skipped:
        print(f"{where}: left out {skipped:,} that cannot be used")
    if skipped and not kept:
        raise BadInput(f"{where}: expected something that can be used, got none")


def check_texts(where: str, *values: Any) -> None:
    """Whether all texts among these values, or in lists of them, can be written in any encoding of Unicode.

    Raises:
        BadInput: for one that cannot: of bytes that were no UTF-8, or of halves of characters.
    """
    for value in values:
        if isinstance(value, list | tuple):
            check_texts(where, *value)
        elif isinstance(value, str) and (found := _SURROGATE.search(value)):
            came = f"byte 0x{ord(found[0]) - 0xDC00:02x}" if "\udc80" <= found[0] <= "\udcff" else repr(found[0])
            expected = "UTF-8, got" if came.startswith("byte") else "a text, got a character that no text has:"
            raise BadInput(f"{where}: expected {expected} {came}")


def drawn_parts(examples: Sequence[Example], seed: int, parts: Sequence[str], task: str) -> dict[str, list[int]]:
    """The numbers of the examples that are trained on, and of those of each part that is drawn."""
    number: dict[Hashable, int] = {}  # of each group that has several examples, or could
    groups, K = array("q"), 0  # the number of the group of each example, and how many groups there are
    for example in examples:
        k = K if example.group is None else number.setdefault(_brief(example.group), K)
        groups.append(k)
        K = max(K, k + 1)
    order = np.random.default_rng(seed).permutation(K)
    count = -(-K // SHARE)
    if count * len(parts) >= K:
        raise BadInput(f"{task}: expected at least {len(parts) + 1} examples (or groups of them) to split, got {K}")
    of = np.empty(K, np.int64)  # which part each group is of
    of[order] = np.minimum(np.arange(K) // count, len(parts))
    whose = of[np.asarray(groups)]
    return {name: np.flatnonzero(whose == k).tolist() for k, name in enumerate([*parts, "train"])}


def repeated(examples: Sequence[Example], among: Sequence[Example]) -> int:
    """How many examples have an input that one among others has too."""
    known = {_digest(_bytes(example.input)) for example in among}
    return sum(_digest(_bytes(example.input)) in known for example in examples)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _brief(group: Hashable) -> Hashable:
    """The same in a few bytes, where it is a text, perhaps a long one: that of millions of examples is too much."""
    return _digest(group.encode("utf-8", "surrogatepass")) if isinstance(group, str) else group


def sha256_of(parts: Parts) -> str:
    """To know examples again, and how they were split."""
    found = hashlib.sha256()
    for part in parts:
        for example in part:
            for value in (example.input, example.target):
                found.update(_bytes(value))
        found.update(b"|")
    return found.hexdigest()


def _bytes(value: Any) -> bytes:
    return value.tobytes() if hasattr(value, "tobytes") else repr(value).encode("utf-8", "surrogatepass")
