"""What a step depends on beside its tensors, as a value that can be compared and restored."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from elman.engine.trace.python_state import PythonState, version

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_hooks(cell: nn.Module) -> bool:
    """Return True if calls of a cell, or of modules in it, call hooks."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        for module in cell.modules()
    )


class Fingerprint:
    """A hashable summary of what a step reads beside its tensors; equal if nothing of it has changed."""

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
    """The fingerprint of a cell, and a quick test of whether it is still valid."""

    def __init__(self, cell: nn.Module) -> None:
        state = PythonState(cell)
        self.fingerprint, self.tensors = Fingerprint(state.key), [weakref.ref(tensor) for tensor in state.tensors]
        self._locations = [(location, location.quick_key()) for location in state.locations]
        # Quick keys contain ids, which are valid while the objects live: objects without weak references are kept.
        self._collected, self._references = False, list[object]()
        for location in state.locations:
            for _, value in location.values():
                try:
                    self._references.append(weakref.ref(value, self._set_collected))
                except TypeError:
                    self._references.append(value)

    def _set_collected(self, _: object) -> None:
        self._collected = True

    def is_valid(self) -> bool:
        """Whether nothing that the step reads has changed."""
        return not self._collected and all(location.quick_key() == key for location, key in self._locations)


_caches: "weakref.WeakKeyDictionary[nn.Module, _CellCache]" = weakref.WeakKeyDictionary()


def _cache_of(cell: nn.Module) -> _CellCache:
    cache = _caches.get(cell)
    if cache is None or not cache.is_valid():
        old = cache
        cache = _caches[cell] = _CellCache(cell)
        if old is not None and old.fingerprint == cache.fingerprint:
            cache.fingerprint = old.fingerprint  # the same object compares faster
    return cache


def fingerprint(cell: nn.Module) -> Fingerprint:
    """Return the fingerprint of what a cell's step reads: attributes, globals, variables of enclosing functions.

    The elements of tensors are not part of it.
    """
    return _cache_of(cell).fingerprint


def outside_tensors(cell: nn.Module) -> tuple[tuple[Tensor, int], ...]:
    """Return the tensors that a step can reach and that are not the cell's own, with their version counters."""
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
    """A context in which the modules of a cell have their old modes; yields whether the fingerprint is unchanged."""
    modules = list(cell.modules())
    modes = [module.training for module in modules]
    try:
        for module, training in zip(modules, state.training, strict=False):
            module.training = training
        yield fingerprint(cell).follows(state.fingerprint)
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
