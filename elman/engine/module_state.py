"""What a step depends on beside its tensors, as a value that can be compared and restored."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, NamedTuple

from torch import Tensor, nn

from elman.engine.trace.python_state import PythonState, version

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_hooks_of = attrgetter(*HOOKS)


def has_hooks(cell: nn.Module) -> bool:
    """Return True if calls of a cell, or of modules in it, call hooks."""
    return any(map(_calls_hooks, cell.modules()))


def _calls_hooks(module: nn.Module) -> bool:
    return any(_hooks_of(module))


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


class _Order(NamedTuple):
    """Which of the registered values of all modules are the parameters and buffers of a cell: a tensor counts once.

    Attributes:
        names: of the registered values.
        ids: of the registered values, by which tied parameters are recognized.
        full_names: of the parameters and buffers.
        places: of the parameters and buffers among the registered values.
    """

    names: list[str]
    ids: list[int]
    full_names: tuple[str, ...]
    places: list[int]


class _CellCache:
    """The fingerprint of a cell, and a quick test of whether it is still valid."""

    def __init__(self, cell: nn.Module) -> None:
        state = PythonState(cell)
        self.fingerprint, self.tensors = Fingerprint(state.key), [weakref.ref(tensor) for tensor in state.tensors]
        self._locations = [(location, location.quick_key()) for location in state.locations]
        # Of each module, the prefix of its names. They are as valid as the locations, which include all submodules.
        self._modules = [(f"{name}." if name else "", weakref.ref(module)) for name, module in cell.named_modules()]
        self._order = _Order([], [], (), [])
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
        if self._collected:
            return False
        for location, key in self._locations:  # noqa: SIM110 (all() takes longer)
            if location.quick_key() != key:
                return False
        return True

    def registered(self, cell: nn.Module) -> tuple[tuple[str, ...], list[Tensor]] | None:
        """The names of the parameters and buffers, and the tensors; None if calls of the modules call hooks."""
        names, values = list[str](), list[Any]()
        for path, reference in self._modules:
            module = reference()
            if module is None or _calls_hooks(module):
                return None
            for registry in (module._parameters, module._buffers):
                names += registry
                values += registry.values()
                names.append(path)  # marks the end: no name is empty, or ends with a dot
        ids, order = [*map(id, values)], self._order
        if order.names != names or order.ids != ids:
            named = [*cell.named_parameters(), *cell.named_buffers()]
            places = [ids.index(id(tensor)) for _, tensor in named]
            order = self._order = _Order(names, ids, tuple(name for name, _ in named), places)
        return order.full_names, [values[place] for place in order.places]


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


class StepState(NamedTuple):
    """The fingerprint of a cell, the names of its parameters and buffers, and these."""

    fingerprint: Fingerprint
    names: tuple[str, ...]
    tensors: list[Tensor]


def step_state(cell: nn.Module) -> StepState | None:
    """Return all that a step of a cell depends on; None if it calls hooks. Takes a few microseconds."""
    cache = _cache_of(cell)
    registered = cache.registered(cell)
    return None if registered is None else StepState(cache.fingerprint, *registered)


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
