"""How examples are split into training, validation and test parts.

Examples with the same content, and examples of the same group, form one component, and a component is never on both
sides of a split. Content and groups are kept as hashes, so that millions of examples can be split.
"""

import csv
import hashlib
import unicodedata
from array import array
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.examples import Example
from elman.errors import BadInput
from elman.io.files import text_lines
from elman.io.format import counted

SHARE = 10  # one part in so many is validated on, and one is tested on
MANY = 3  # components of a label that can be split: one for each part

Numbers = NDArray[np.int64]


def fingerprint(value: Any) -> int:
    """A 64-bit hash of the content of an input, the same wherever it was read from.

    Arrays are compared by shape and values. Texts are compared in Unicode normal form C, with runs of white space as
    one space.

    >>> fingerprint("two  words") == fingerprint("two words")
    True
    """
    found = hashlib.blake2b(digest_size=8)
    _feed(found, value)
    return int.from_bytes(found.digest())


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, str):
        text = " ".join(unicodedata.normalize("NFC", value).split()).encode("utf-8", "surrogatepass")
        found.update(b"text %d " % len(text) + text)
    elif isinstance(value, tuple | list):
        found.update(b"%d of " % len(value))
        for one in value:
            _feed(found, one)
    elif isinstance(value, np.ndarray):
        found.update(f"{value.dtype} {value.shape} ".encode())
        found.update(np.ascontiguousarray(value).data)
    else:
        found.update(repr(value).encode("utf-8", "surrogatepass"))


def inputs_of(examples: Sequence[Example], once: bool) -> int:
    """How many inputs examples have; `once`: copies count once."""
    return len({fingerprint(example.input) for example in examples}) if once else len(examples)


class ContentIndex:
    """The content and the group of each example as numbers, collected while examples are read.

    >>> index = ContentIndex()
    >>> [example.input for example in index.collect([Example("a b"), Example("c"), Example("a  b")])]
    ['a b', 'c', 'a  b']
    >>> index.components()
    array([0, 1, 0])
    """

    def __init__(self) -> None:
        self._contents, self._groups, self._number = array("Q"), array("q"), dict[Hashable, int]()

    def collect(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Examples, as they pass."""
        for example in examples:
            group, number = example.group, self._number
            self._contents.append(fingerprint(example.input))
            self._groups.append(-1 if group is None else number.setdefault(_brief(group), len(number)))
            yield example

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """The hash of the content of each example, (N,)."""
        return np.array(self._contents, np.uint64)

    def components(self, join: bool = True) -> Numbers:
        """The component of each example, (N,), numbered from 0 in order of first appearance.

        Args:
            join: groups that have content in common are one component. Without it, a copy belongs to the group of the
                first example of this content, and groups stay apart.
        """
        found, first, content = np.unique(self.hashes, return_index=True, return_inverse=True)
        group, C = np.array(self._groups, np.int64), len(found)
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


def components(examples: Iterable[Example], join: bool = True) -> Numbers:
    """The component of each example, as `ContentIndex.components`."""
    index = ContentIndex()
    deque(index.collect(examples), maxlen=0)
    return index.components(join)


def in_order(numbers: NDArray[Any]) -> Numbers:
    """The same with numbers from 0, in order of first appearance."""
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _brief(group: Hashable) -> Hashable:
    """A group in a few bytes, where it is a text, perhaps a long one."""
    if not isinstance(group, str):
        return group
    return hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def drawn_parts(component: Numbers, seed: int, parts: Sequence[str], task: str) -> dict[str, list[int]]:
    """Draw parts by a seed, each a tenth of all components.

    Args:
        component: of each example.
        seed: of the random numbers.
        parts: to be drawn; the rest is trained on.
        task: its name, for complaints.

    Returns:
        The numbers of the examples of each part, "train" among them.
    """
    K = int(component.max(initial=-1)) + 1
    order = np.random.default_rng(seed).permutation(K)
    count = -(-K // SHARE)
    if count * len(parts) >= K:
        expected = f"at least {len(parts) + 1} different examples (or groups of them)"
        raise _too_few(task, parts, expected, f"{K}, where copies, and groups that share one, count as one")
    part = np.empty(K, np.int64)
    part[order] = np.minimum(np.arange(K) // count, len(parts))
    return _numbers(part[component], parts)


def stratified_parts(
    component: Numbers, labels: Sequence[Hashable], seed: int, parts: Sequence[str], task: str
) -> tuple[dict[str, list[int]], dict[Hashable, int]]:
    """Draw parts by a seed so that labels have the same shares in all of them.

    Components are ordered by label, and drawn at even distances (systematic sampling), so each part has its share of
    each label to within one component. The largest component of each label is trained on, and so are all of a label
    that has fewer than three. scikit-learn's StratifiedGroupKFold needs a label with ten examples, does not promise
    that each label is trained on, and takes half a minute for 70,000 examples.

    Args:
        component: of each example.
        labels: of each example.
        seed: of the random numbers.
        parts: to be drawn; the rest is trained on.
        task: its name, for complaints.

    Returns:
        The numbers of the examples of each part, "train" among them; and labels with fewer than three components,
        with how many each has.
    """
    rng, K = np.random.default_rng(seed), int(component.max(initial=-1)) + 1
    number: dict[Hashable, int] = {}
    label = np.array([number.setdefault(one, len(number)) for one in labels], np.int64)
    L = len(number)
    pairs, sizes = np.unique(component * L + label, return_counts=True)
    of, which = np.divmod(pairs, L)  # a component, and a label in it
    rank, shuffled = rng.permutation(K), rng.permutation(L)
    order = np.lexsort((rank[of], -sizes, shuffled[which]))  # labels in random order; in each, the largest first
    of, which = of[order], which[order]
    several = np.bincount(which, minlength=L)
    rare = np.flatnonzero(several < MANY)
    trained = np.zeros(K, bool)
    trained[of[np.unique(which, return_index=True)[1]]] = True  # the largest of each label
    trained[of[np.isin(which, rare)]] = True
    free = of[~trained[of]]
    free = free[np.sort(np.unique(free, return_index=True)[1])]  # a component with several labels counts as one
    count = -(-(K - len(np.unique(of[np.isin(which, rare)]))) // SHARE)
    if len(parts) and (not count or count * len(parts) > len(free)):
        got = f"{K:,} of {counted(L, 'label')}, where copies count as one"
        raise _too_few(task, parts, f"a label with at least {MANY} different examples", got)
    part = np.full(K, len(parts), np.int64)
    picks = len(parts) * count
    if picks:
        part[free[np.arange(picks) * len(free) // picks]] = np.arange(picks) % len(parts)
    names = list(number)
    return _numbers(part[component], parts), {names[i]: int(several[i]) for i in rare.tolist()}


def _numbers(part: Numbers, parts: Sequence[str]) -> dict[str, list[int]]:
    return {name: np.flatnonzero(part == k).tolist() for k, name in enumerate([*parts, "train"])}


def _too_few(task: str, parts: Sequence[str], expected: str, got: str) -> BadInput:
    options = " and ".join(f"--{name}" for name in parts)
    return BadInput(f"{task}: expected {expected} to split, got {got}; add data, or pass {options}")


def kept_split(path: Path, examples: Sequence[Example], names: Sequence[str]) -> dict[str, list[int]] | None:
    """The split that a run has written, if it is one of these examples: else they are other data than the run's.

    Args:
        path: of split.csv, a part, a number and a name in each row.
        examples: that are split.
        names: of the parts that were drawn, "train" among them.
    """
    found: dict[str, list[int]] = {name: [] for name in names}
    if not path.exists():
        return None
    for row in csv.DictReader(text_lines(path, newlines=True)):
        part, number = row.get("part"), row.get("number") or ""
        if part in found:
            if not number.isdecimal() or int(number) >= len(examples):
                return None
            found[part].append(int(number))
    return found if all(found.values()) else None
