"""Chooses few of the combinations of parameters that a test is run with."""

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def covering(combinations: Sequence[tuple[Item, Iterable[Hashable]]]) -> list[Item]:
    """Return combinations in which every value occurs, each time the first of those that have most of what is missing.

    Args:
        combinations: of a test: an item, and its values, such as names of parameters with the index of the value.
    """
    values = [(item, frozenset(of_item)) for item, of_item in combinations]
    missing = frozenset[Hashable]().union(*(of_item for _, of_item in values))
    chosen = list[Item]()
    while missing:
        item, of_item = max(values, key=lambda pair: len(missing & pair[1]))
        chosen.append(item)
        missing -= of_item
    return chosen
