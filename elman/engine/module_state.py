"""What a step depends on beside its tensors, as a value that can be compared and restored."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from elman.engine.trace.python_state import PythonState, version

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Fingerprint:
    """What a step reads beside its tensors, as a hashable value: equal where it reads the same."""

    def __init__(self, key: Any) -> None:
        self._key, self._hash = key, hash(key)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Fingerprint) and self._hash == other._hash and self._key == other._key
        )

    def __hash__(self) -> int:
        return self._hash

    def follows(self, before: "Fingerprint") -> bool:
        """Whether this one equals an earlier one, except for entries appended to logs since."""
        if self == before or len(self._key) != len(before._key):
            return self == before
        pairs = zip(self._key, before._key, strict=True)
        return all(a == b or (a[0] and b[0] and a[1][: len(b[1])] == b[1]) for a, b in pairs)


class _CellCache:
    """The fingerprint of a cell, and what tells quickly that it is still valid."""

    def __init__(self, cell: nn.Module) -> None:
        state = PythonState(cell)
        self.fingerprint, self.tensors = Fingerprint(state.key), [weakref.ref(tensor) for tensor in state.tensors]
        self._places = [(place, place.quick_key()) for place in state.locations]
        # An object is known by its id as long as it lives; one that takes no weak references is kept alive.
        self._collected, self._references = False, list[object]()
        for place in state.locations:
            for _, value in place.values():
                try:
                    self._references.append(weakref.ref(value, self._set_collected))
                except TypeError:
                    self._references.append(value)

    def _set_collected(self, _: object) -> None:
        self._collected = True

    def is_valid(self) -> bool:
        """Whether nothing that the step reads has changed."""
        return not self._collected and all(place.quick_key() == before for place, before in self._places)


_caches: "weakref.WeakKeyDictionary[nn.Module, _CellCache]" = weakref.WeakKeyDictionary()


def _cache_of(cell: nn.Module) -> _CellCache:
    cache = _caches.get(cell)
    if cache is None or not cache.is_valid():
        before = cache
        cache = _caches[cell] = _CellCache(cell)
        if before is not None and before.fingerprint == cache.fingerprint:
            cache.fingerprint = before.fingerprint
    return cache


def fingerprint(cell: nn.Module) -> Fingerprint:
    """What the step of a cell reads: attributes, class attributes, globals, variables of enclosing functions.

    The numbers in tensors are no part of it.
    """
    return _cache_of(cell).fingerprint


def outside_tensors(cell: nn.Module) -> tuple[tuple[Tensor, int], ...]:
    """Tensors that a step can reach and that are not the cell's own, and how often each was written to in place."""
    tensors = (reference() for reference in _cache_of(cell).tensors)
    return tuple((tensor, version(tensor)) for tensor in tensors if tensor is not None)


class ModuleState(NamedTuple):
    """The mode of each module of a cell, training or evaluation, and the fingerprint of its step."""

    training: tuple[bool, ...]
    fingerprint: Fingerprint

    @classmethod
    def of(cls, cell: nn.Module) -> "ModuleState":
        """The present state."""
        return cls(tuple(module.training for module in cell.modules()), fingerprint(cell))


@contextmanager
def restore_module_state(cell: nn.Module, state: ModuleState) -> Iterator[bool]:
    """Within, each module of a cell has the mode of then; yields whether the fingerprint is that of then, too."""
    modules = list(cell.modules())
    modes = [module.training for module in modules]
    try:
        for module, training in zip(modules, state.training, strict=False):
            module.training = training
        yield fingerprint(cell).follows(state.fingerprint)
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
