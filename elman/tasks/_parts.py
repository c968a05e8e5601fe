"""Examples, how they are split, and how a split is known again."""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from elman.errors import BadInput

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

    train: list[Example]
    validation: list[Example]
    test: list[Example]


def drawn_parts(examples: Sequence[Example], seed: int, parts: Sequence[str], task: str) -> dict[str, list[int]]:
    """The numbers of the examples that are trained on, and of those of each part that is drawn."""
    groups: dict[Hashable, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(i if example.group is None else ("group", example.group), []).append(i)
    keys = list(groups)
    order = np.random.default_rng(seed).permutation(len(keys)).tolist()
    count = -(-len(keys) // SHARE)
    if len(keys) <= count * len(parts):
        raise BadInput(
            f"{task}: expected at least {len(parts) + 2} examples (or groups of them) to split, got {len(keys)}"
        )
    found = {}
    for name in parts:
        drawn, order = order[:count], order[count:]
        found[name] = sorted(i for k in drawn for i in groups[keys[k]])
    return found | {"train": sorted(i for k in order for i in groups[keys[k]])}


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
