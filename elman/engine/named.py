"""Names for values within a step, such as gates, which can be recorded or changed."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count
from typing import Any

from torch import Tensor

Change = Callable[[Tensor], Tensor]


class _NameRequests(threading.local):
    """Per-thread recording dictionary and change functions of the enclosing contexts."""

    recorded: dict[str, Tensor] | None = None
    changes: Mapping[str, Change] | None = None


_requests = _NameRequests()


def named(**values: Tensor) -> Any:
    """Name values of a step, so that `layer.trajectory` returns them under these names.

    A cell calls it in its step:

        i, f = named(i=sigmoid(a), f=sigmoid(b))
        n = named(n=tanh(d))

    Args:
        values: each of shape (B, ...), with a row for each member of the batch. A name that is used again in the same
            step, for example by a second cell inside the first, gets a number: r, r_2, r_3.

    Returns:
        The values as a tuple, in order; a single value as it is.

    >>> import elman, torch
    >>> def leaky(x, h):
    ...     z = elman.named(z=torch.sigmoid(x))
    ...     return (1 - z) * h + z * x
    >>> trajectory = elman.Recurrent(leaky, state_size=3).trajectory(torch.zeros(7, 2, 3))
    >>> trajectory.named["z"].shape, trajectory.named["z"][0, 0, 0].item()
    (torch.Size([7, 2, 3]), 0.5)
    """
    if _requests.changes is not None:
        values |= {name: change(values[name]) for name, change in _requests.changes.items() if name in values}
    if _requests.recorded is not None:
        for name, value in values.items():
            _requests.recorded[_unused_name(name, _requests.recorded)] = value
    return tuple(values.values()) if len(values) > 1 else next(iter(values.values()))


def _unused_name(name: str, used: Mapping[str, Tensor]) -> str:
    numbered = (f"{name}_{k}" for k in count(2))
    return next(candidate for candidate in chain([name], numbered) if candidate not in used)


@contextmanager
def recording_names() -> Iterator[dict[str, Tensor]]:
    """Record the values that are named within, by name; enclosing recordings get them too."""
    outer, recorded = _requests.recorded, dict[str, Tensor]()
    _requests.recorded = recorded
    try:
        yield recorded
    finally:
        _requests.recorded = outer
    if outer is not None:
        outer |= recorded


@contextmanager
def changing_names(changes: Mapping[str, Change]) -> Iterator[None]:
    """Within, replace each value whose name is in `changes` by the result of that function."""
    outer, _requests.changes = _requests.changes, changes
    try:
        yield
    finally:
        _requests.changes = outer
