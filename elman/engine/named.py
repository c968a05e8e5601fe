"""Names for values within a step, such as gates, which can be recorded or changed."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count
from typing import Any

from torch import Tensor

Change = Callable[[Tensor], Tensor]


class _NameRequests(threading.local):
    """What is asked for in this thread: names to values seen, and names to what is done with them."""

    seen: dict[str, Tensor] | None = None
    changes: Mapping[str, Change] | None = None


_asked = _NameRequests()


def named(**values: Tensor) -> Any:
    """The values, under names by which `layer.trajectory` gives them back.

    A cell says of the values of its step what they are called:

        i, f = named(i=sigmoid(a), f=sigmoid(b))
        n = named(n=tanh(d))

    Args:
        values: each of shape (B, ...), with a row for each member of the batch. A name that comes again in a step, as
            of a second cell within the first, gets a number: r, r_2, r_3.

    Returns:
        The values as a tuple, in order, or the only one.
    """
    if _asked.changes is not None:
        values |= {name: change(values[name]) for name, change in _asked.changes.items() if name in values}
    if _asked.seen is not None:
        for name, value in values.items():
            _asked.seen[_free(name, _asked.seen)] = value
    return tuple(values.values()) if len(values) > 1 else next(iter(values.values()))


def _free(name: str, taken: Mapping[str, Tensor]) -> str:
    numbered = (f"{name}_{k}" for k in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


@contextmanager
def recording_names() -> Iterator[dict[str, Tensor]]:
    """What is named within, by name; who asks around this sees it too."""
    before, found = _asked.seen, dict[str, Tensor]()
    _asked.seen = found
    try:
        yield found
    finally:
        _asked.seen = before
    if before is not None:
        before |= found


@contextmanager
def changing_names(changes: Mapping[str, Change]) -> Iterator[None]:
    """What is named within is what the change of that name makes of it."""
    before, _asked.changes = _asked.changes, changes
    try:
        yield
    finally:
        _asked.changes = before
