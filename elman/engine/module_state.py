"""What a step depends on beside its tensors, as a value that can be compared and restored."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from elman.engine.trace.python_state import PythonState, version

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Fingerprint:
    """What a step reads, to be compared: equal where it reads the same."""

    def __init__(self, key: Any) -> None:
        self._key, self._hash = key, hash(key)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Fingerprint) and self._hash == other._hash and self._key == other._key
        )

    def __hash__(self) -> int:
        return self._hash

    def follows(self, before: "Fingerprint") -> bool:
        """Whether a step reads what it read before, but that something has been appended to logs since."""
        if self == before or len(self._key) != len(before._key):
            return self == before
        pairs = zip(self._key, before._key, strict=True)
        return all(a == b or (a[0] and b[0] and a[1][: len(b[1])] == b[1]) for a, b in pairs)


class _Watched:
    """What a step has read last, and by what it can be seen quickly that it reads the same now."""

    def __init__(self, cell: nn.Module) -> None:
        reached = PythonState(cell)
        self.options, self.tensors = Fingerprint(reached.key), [weakref.ref(tensor) for tensor in reached.tensors]
        self._places = [(place, place.now()) for place in reached.places]
        # An object is known by its number as long as it lives: what cannot be referred to weakly is kept.
        self._gone, self._kept = False, list[object]()
        for place in reached.places:
            for _, value in place.values():
                try:
                    self._kept.append(weakref.ref(value, self._lost))
                except TypeError:
                    self._kept.append(value)

    def _lost(self, _: object) -> None:
        self._gone = True

    def still(self) -> bool:
        """Whether all of it is as it was."""
        return not self._gone and all(place.now() == before for place, before in self._places)


_watched: "weakref.WeakKeyDictionary[nn.Module, _Watched]" = weakref.WeakKeyDictionary()


def _watch(cell: nn.Module) -> _Watched:
    found = _watched.get(cell)
    if found is None or not found.still():
        before = found
        found = _watched[cell] = _Watched(cell)
        if before is not None and before.options == found.options:
            found.options = before.options
    return found


def fingerprint(cell: nn.Module) -> Fingerprint:
    """What the step of a cell reads: attributes, class attributes, globals, variables of enclosing functions.

    Numbers of tensors are no part of it.
    """
    return _watch(cell).options


def outside_tensors(cell: nn.Module) -> tuple[tuple[Tensor, int], ...]:
    """The tensors that a step can reach and that are none of the cell's, and how often each was written to."""
    tensors = (tensor() for tensor in _watch(cell).tensors)
    return tuple((tensor, version(tensor)) for tensor in tensors if tensor is not None)


class ModuleState(NamedTuple):
    """How a cell stands: training or evaluation, of each of its modules, and what its step reads."""

    training: tuple[bool, ...]
    options: Fingerprint

    @classmethod
    def of(cls, cell: nn.Module) -> "ModuleState":
        """As it is now."""
        return cls(tuple(module.training for module in cell.modules()), fingerprint(cell))


@contextmanager
def restore_module_state(cell: nn.Module, stand: ModuleState) -> Iterator[bool]:
    """Within, a cell is in training or in evaluation as it was then; and whether all else is as it was."""
    modules = list(cell.modules())
    now = [module.training for module in modules]
    try:
        for module, training in zip(modules, stand.training, strict=False):
            module.training = training
        yield fingerprint(cell).follows(stand.options)
    finally:
        for module, training in zip(modules, now, strict=True):
            module.training = training
