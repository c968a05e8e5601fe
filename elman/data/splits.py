"""Split examples into training, validation and test parts.

Examples with the same content or of the same group form a component, and a component is never on both sides of a
split. Content and groups are stored as hashes, so that millions of examples can be split.
"""

import csv
import hashlib
import re
import unicodedata
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.examples import Example
from elman.errors import BadInput
from elman.io.files import check_regular, text_lines
from elman.io.format import counted

SHARE = 10  # validation and test each get one in SHARE components
MIN_COMPONENTS = 3  # fewest components of a label that can be split: one per part

Numbers = NDArray[np.int64]


def fingerprint(value: Any) -> int:
    """Return a 64-bit hash of the content of an input, independent of where it was read.

    Arrays are compared by shape and values; texts in Unicode normal form C, with runs of white space as one space.

    >>> fingerprint("two  words") == fingerprint("two words")
    True
    """
    hasher = hashlib.blake2b(digest_size=8)
    _update(hasher, value)
    return int.from_bytes(hasher.digest())


def _update(hasher: Any, value: Any) -> None:
    if isinstance(value, str):
        text = " ".join(unicodedata.normalize("NFC", value).split()).encode("utf-8", "surrogatepass")
        hasher.update(b"text %d " % len(text) + text)
    elif isinstance(value, tuple | list):
        hasher.update(b"%d of " % len(value))
        for element in value:
            _update(hasher, element)
    elif isinstance(value, np.ndarray):
        hasher.update(f"{value.dtype} {value.shape} ".encode())
        hasher.update(np.ascontiguousarray(value).data)
    else:
        hasher.update(repr(value).encode("utf-8", "surrogatepass"))


def count_inputs(examples: Sequence[Example], unique: bool) -> int:
    """Return the number of inputs of examples; with `unique`, copies count once."""
    return len({fingerprint(example.input) for example in examples}) if unique else len(examples)


class ContentIndex:
    """Content and group of each example as numbers, collected while examples are read.

    >>> index = ContentIndex()
    >>> [example.input for example in index.collect([Example("a b"), Example("c"), Example("a  b")])]
    ['a b', 'c', 'a  b']
    >>> index.components()
    array([0, 1, 0])
    """

    def __init__(self) -> None:
        self._contents, self._groups, self._number = array("Q"), array("q"), dict[Hashable, int]()

    def collect(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Iterate over examples and index them."""
        for example in examples:
            group, number = example.group, self._number
            self._contents.append(fingerprint(example.input))
            self._groups.append(-1 if group is None else number.setdefault(_group_key(group), len(number)))
            yield example

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Content hash of each example, (N,)."""
        return np.array(self._contents, np.uint64)

    def components(self, join: bool = True) -> Numbers:
        """Return the component of each example, (N,), numbered from 0 in order of first appearance.

        Args:
            join: whether groups that share content form one component. If False, a copy belongs to the group of the
                first example with its content, and groups stay separate.
        """
        contents, first, content = np.unique(self.hashes, return_index=True, return_inverse=True)
        group, C = np.array(self._groups, np.int64), len(contents)
        if not self._number:
            return in_order(content)
        if not join:
            owner = group[first][content]
            return in_order(np.where(owner < 0, content, C + owner))
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        has, size = group >= 0, C + len(self._number)
        edges = coo_array((np.ones(has.sum(), bool), (content[has], C + group[has])), (size, size))
        return in_order(connected_components(edges, directed=False)[1][content])


def in_order(numbers: NDArray[Any]) -> Numbers:
    """Renumber from 0 in order of first appearance."""
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _group_key(group: Hashable) -> Hashable:
    """Return a short key for a group: the hash of a text, which may be long, or the group itself."""
    if not isinstance(group, str):
        return group
    return hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def drawn_parts(component: Numbers, seed: int, parts: Sequence[str], task: str) -> dict[str, list[int]]:
    """Draw parts at random, each with a tenth of all components.

    Args:
        component: component of each example.
        seed: random seed.
        parts: names of the parts to draw; the other examples are for training.
        task: name of the task, for error messages.

    Returns:
        The indices of the examples of each part, including "train".
    """
    K = int(component.max(initial=-1)) + 1
    order = np.random.default_rng(seed).permutation(K)
    count = -(-K // SHARE)
    if count * len(parts) >= K:
        expected = f"at least {len(parts) + 1} different examples (or groups of them)"
        raise _too_few(task, parts, expected, f"{K} (duplicates, and groups that share one, count as one)")
    part = np.empty(K, np.int64)
    part[order] = np.minimum(np.arange(K) // count, len(parts))
    return _numbers(part[component], parts)


def stratified_parts(
    component: Numbers, labels: Sequence[Hashable], seed: int, parts: Sequence[str], task: str
) -> tuple[dict[str, list[int]], dict[Hashable, int]]:
    """Draw parts at random so that labels have the same shares in all of them.

    Components are ordered by label and drawn at even distances (systematic sampling), so each part gets its share of
    each label to within one component. The largest component of each label is in training, and so are all components
    of a label that has fewer than three. scikit-learn's StratifiedGroupKFold needs ten examples of a label, does not
    guarantee that each label is in training, and takes half a minute for 70,000 examples.

    Args:
        component: component of each example.
        labels: label of each example.
        seed: random seed.
        parts: names of the parts to draw; the other examples are for training.
        task: name of the task, for error messages.

    Returns:
        The indices of the examples of each part, including "train"; and the number of components of each label that has
        fewer than three.
    """
    rng, K = np.random.default_rng(seed), int(component.max(initial=-1)) + 1
    label_index: dict[Hashable, int] = {}
    label = np.array([label_index.setdefault(name, len(label_index)) for name in labels], np.int64)
    L = len(label_index)
    pairs, sizes = np.unique(component * L + label, return_counts=True)
    owner, pair_label = np.divmod(pairs, L)  # component and label of each pair
    rank, shuffled = rng.permutation(K), rng.permutation(L)
    # Labels are in random order, and the components of each label from large to small.
    order = np.lexsort((rank[owner], -sizes, shuffled[pair_label]))
    owner, pair_label = owner[order], pair_label[order]
    num_components = np.bincount(pair_label, minlength=L)
    rare = np.flatnonzero(num_components < MIN_COMPONENTS)
    in_training = np.zeros(K, bool)
    in_training[owner[np.unique(pair_label, return_index=True)[1]]] = True  # the largest component of each label
    in_training[owner[np.isin(pair_label, rare)]] = True
    free = owner[~in_training[owner]]
    free = free[np.sort(np.unique(free, return_index=True)[1])]  # a component with several labels counts as one
    count = -(-(K - len(np.unique(owner[np.isin(pair_label, rare)]))) // SHARE)
    if len(parts) and (not count or count * len(parts) > len(free)):
        got = f"{K:,} of {counted(L, 'label')}, where duplicates count as one"
        raise _too_few(task, parts, f"a label with at least {MIN_COMPONENTS} different examples", got)
    part = np.full(K, len(parts), np.int64)
    picks = len(parts) * count
    if picks:
        part[free[np.arange(picks) * len(free) // picks]] = np.arange(picks) % len(parts)
    names = list(label_index)
    return _numbers(part[component], parts), {names[i]: int(num_components[i]) for i in rare.tolist()}


def _numbers(part: Numbers, parts: Sequence[str]) -> dict[str, list[int]]:
    return {name: np.flatnonzero(part == k).tolist() for k, name in enumerate([*parts, "train"])}


def _too_few(task: str, parts: Sequence[str], expected: str, got: str) -> BadInput:
    options = " and ".join(f"--{name}" for name in parts)
    return BadInput(f"{task}: expected {expected} to split, got {got}; add data, or pass {options}")


def load_split(path: Path, examples: Sequence[Example], names: Sequence[str]) -> dict[str, list[int]] | None:
    """Read the split that a run has stored, or return None if it does not fit these examples.

    Args:
        path: split.csv, with a part, a number and a name per row.
        examples: the examples to split.
        names: names of the parts that were drawn, including "train".

    Raises:
        BadInput: if the file is no table.
    """
    indices: dict[str, list[int]] = {name: [] for name in names}
    if not path.exists():
        return None
    check_regular(path, "a table")
    try:
        for row in csv.DictReader(text_lines(path, newlines=True)):
            part, number = row.get("part"), row.get("number") or ""
            if part in indices:
                if not re.fullmatch(r"[0-9]{1,18}", number) or int(number) >= len(examples):
                    return None
                indices[part].append(int(number))
    except csv.Error as error:
        raise BadInput(f"{path}: expected a table of the parts of examples: {error}") from None
    return indices if all(indices.values()) else None
