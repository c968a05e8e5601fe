"""Finds what a step reads beside its tensors: attributes, globals, closures, default arguments.

The code of a step says by which names it reads. From the cell these are followed, through objects, containers and
functions, to the places where values stand: so changes between calls are seen, and what a step on random numbers has
done to them is undone. Libraries are taken to read their arguments and nothing else.
"""

import logging
import random
import sys
import sysconfig
import weakref
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dis import get_instructions
from enum import Enum
from functools import cache, cached_property, lru_cache, partial
from io import IOBase
from numbers import Number
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

DEPTH = 2  # objects of libraries within each other, of which all attributes are looked at
ATOMS = (Number, str, bytes, type(None), Enum, np.generic, torch.dtype, torch.device, range, slice, type(Ellipsis))
BASE = frozenset(vars(nn.Module())) - {"training"}  # of every module, and changed by torch itself
LIBRARIES = {"torch", "numpy", "elman", *sys.stdlib_module_names}
INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")})
UNSEEN = {"getattr", "setattr", "hasattr", "vars", "__dict__", "eval", "exec", "attrgetter", "__getattribute__"}
ANYTHING = {"globals", "eval", "exec"}  # by which code reads and writes names that do not stand in it
CONSTRUCTING = {"__init__", "__new__", "__post_init__"}
NOT_CALLED = {
    *CONSTRUCTING, "__repr__", "__str__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__del__",
    "__init_subclass__", "__class_getitem__", "__deepcopy__", "__copy__", "__dir__", "__sizeof__",
}  # fmt: skip
MISSING = object()
ATTRIBUTE = "an attribute"


class AccessPath(NamedTuple):
    """How a place is reached: through what kind of name, and whether the name itself stands for it."""

    kind: str
    name: str
    itself: bool = True

    def __str__(self) -> str:
        if self.itself:
            return f"{self.kind}, {self.name!r}, which the step changes"
        return f"{self.name!r}, in which the step changes something"


class Location(ABC):
    """Where values stand that may change."""

    path: AccessPath

    @abstractmethod
    def content(self) -> Any:
        """What stands there, in a form of its own."""

    @abstractmethod
    def put(self, content: Any) -> None:
        """Let the same stand there as then."""

    @abstractmethod
    def changed(self, content: Any) -> str:
        """In words, what has become another since then; "" if nothing has."""

    def values(self) -> Sequence[tuple[AccessPath, object]]:
        """What stands there, and how it is reached."""
        return ()

    def now(self) -> Any:
        """By what it can be seen quickly that nothing has changed, as long as what stands there lives."""
        return self.content()

    def key(self, say: Callable[[object], Any]) -> Any:
        """What stands there, to be compared with what stands there later."""
        return tuple(say(value) for _, value in self.values())


class NamespaceLocation(Location):
    """The attributes of an object or a class, or some of a module's names.

    Args:
        owner: of the names; or a dictionary of globals itself.
        names: those that are read; None for all.
        kind: what a message calls such a name.
        path: of the owner, where a message names that instead.
    """

    def __init__(self, owner: Any, names: Iterable[str] | None, kind: str, path: AccessPath | None = None) -> None:
        try:
            self._owner: Callable[[], Any] = weakref.ref(owner)
        except TypeError:
            self._owner = lambda: owner
        self._some = isinstance(owner, dict | ModuleType)  # of them are looked at: others are none of the step's
        self._hidden = BASE if isinstance(owner, nn.Module) else frozenset[str]()
        space = self._space()
        present = space.keys() - self._hidden
        chosen = present if names is None else names if self._some else present & set(names)
        self.names = tuple(sorted(chosen))
        self._kind, self._path = kind, path

    def _space(self) -> Mapping[str, Any]:
        owner = self._owner()
        return owner if isinstance(owner, dict) else vars(owner)

    def _named(self, name: str) -> AccessPath:
        return AccessPath(self._kind, name) if self._path is None else self._path._replace(itself=False)

    def content(self) -> dict[str, Any]:
        """By name."""
        space = self._space()
        names = self.names if self._some else space.keys() - self._hidden
        return {name: space[name] for name in names if name in space}

    @override
    def put(self, content: dict[str, Any]) -> None:
        owner, now = self._owner(), self.content()
        for name in {*now, *content}:
            if now.get(name, MISSING) is content.get(name, MISSING):
                continue
            if isinstance(owner, type):  # whose dictionary is read alone
                delattr(owner, name) if name not in content else setattr(owner, name, content[name])
            elif name in content:
                self._space()[name] = content[name]  # type: ignore[index]
            else:
                del self._space()[name]  # type: ignore[attr-defined]

    @override
    def changed(self, content: dict[str, Any]) -> str:
        now = self.content()
        names = sorted({*now, *content})
        other = (n for n in names if not _equal(now.get(n, MISSING), content.get(n, MISSING)))
        name = next(other, None)
        return "" if name is None else str(self._named(name))

    @override
    def values(self) -> Sequence[tuple[AccessPath, object]]:
        space = self._space()
        return [(self._named(name), space[name]) for name in self.names if name in space]

    @override
    def now(self) -> Any:
        space = self._space()
        found = list(map(id, map(space.get, self.names)))
        return found if self._some else [*found, len(space)]

    @override
    def key(self, say: Callable[[object], Any]) -> Any:
        space = self._space()
        return tuple((name, say(space[name])) for name in self.names if name in space)


class SlotsLocation(Location):
    """The attributes of an object that has no dictionary of them."""

    def __init__(self, owner: Any, names: Iterable[str], path: AccessPath) -> None:
        self.owner, self.names, self.path = owner, tuple(names), path._replace(itself=False)

    def content(self) -> list[Any]:
        """One by one."""
        return [getattr(self.owner, name, MISSING) for name in self.names]

    @override
    def put(self, content: list[Any]) -> None:
        for name, now, before in zip(self.names, self.content(), content, strict=True):
            if before is MISSING and now is not MISSING:
                object.__delattr__(self.owner, name)
            elif now is not before:
                object.__setattr__(self.owner, name, before)

    @override
    def changed(self, content: list[Any]) -> str:
        return "" if _alike(self.content(), content) else str(self.path)

    @override
    def values(self) -> Sequence[tuple[AccessPath, object]]:
        return [(self.path, value) for value in self.content() if value is not MISSING]

    @override
    def now(self) -> Any:
        return list(map(id, self.content()))


class VariableLocation(Location):
    """A variable of the function around another, which is not kept alive: it may hold the cell."""

    def __init__(self, function: FunctionType, number: int) -> None:
        self._function, self._number = weakref.ref(function), number
        self.path = AccessPath("a variable of an enclosing function", function.__code__.co_freevars[number])

    def _cell(self) -> CellType | None:
        function = self._function()
        return None if function is None else (function.__closure__ or ())[self._number]

    def content(self) -> Any:
        """The value."""
        try:
            cell = self._cell()
            return MISSING if cell is None else cell.cell_contents
        except ValueError:
            return MISSING

    @override
    def put(self, content: Any) -> None:
        cell = self._cell()
        if cell is None:
            return
        if content is not MISSING:
            cell.cell_contents = content
        elif self.content() is not MISSING:
            del cell.cell_contents

    @override
    def changed(self, content: Any) -> str:
        return "" if _equal(self.content(), content) else str(self.path)

    @override
    def values(self) -> Sequence[tuple[AccessPath, object]]:
        value = self.content()
        return [] if value is MISSING else [(self.path, value)]

    @override
    def now(self) -> Any:
        return id(self.content())


class ItemsLocation(Location):
    """The content of a list, a set, a dictionary or the like."""

    def __init__(self, container: Any, path: AccessPath) -> None:
        self.container, self.path = container, path

    def content(self) -> Any:
        """A shallow copy."""
        return dict(self.container) if isinstance(self.container, dict) else list(self.container)

    @override
    def put(self, content: Any) -> None:
        if not self.changed(content):
            return
        self.container.clear()
        (self.container.update if isinstance(self.container, dict | set) else self.container.extend)(content)

    @override
    def changed(self, content: Any) -> str:
        now = self.content()
        if isinstance(self.container, set):
            same = set(map(id, now)) == set(map(id, content)) or set(now) == set(content)
        elif isinstance(now, dict):
            same = _alike(list(now), list(content)) and _alike(list(now.values()), list(content.values()))
        else:
            same = _alike(now, content)
        return "" if same else str(self.path)

    @override
    def values(self) -> Sequence[tuple[AccessPath, object]]:
        own = self.container
        items = [*own.keys(), *own.values()] if isinstance(own, dict) else list(own)
        return [(self.path, value) for value in items]

    @override
    def now(self) -> Any:
        own = self.container
        return (list(map(id, own.keys())), list(map(id, own.values()))) if isinstance(own, dict) else list(map(id, own))


class ArrayLocation(Location):
    """The numbers of an array, or the bytes of something like it."""

    def __init__(self, of: Any, path: AccessPath) -> None:
        self.array, self.path = of, path

    def content(self) -> Any:
        """A copy of them."""
        return bytes(self.array) if isinstance(self.array, bytearray) else self.array.tobytes()

    @override
    def put(self, content: Any) -> None:
        if self.content() == content:
            return
        if isinstance(self.array, np.ndarray):
            self.array[...] = np.frombuffer(content, self.array.dtype).reshape(self.array.shape)
        else:
            del self.array[:]
            self.array.extend(content) if isinstance(self.array, bytearray) else self.array.frombytes(content)

    @override
    def changed(self, content: Any) -> str:
        return "" if self.content() == content else str(self.path)

    @override
    def key(self, say: Callable[[object], Any]) -> Any:
        return str(getattr(self.array, "dtype", "")), getattr(self.array, "shape", ()), self.content()


class TensorLocation(Location):
    """A tensor that is no parameter and no buffer of the cell, and whose numbers are no part of what is compared."""

    def __init__(self, tensor: Tensor, path: AccessPath) -> None:
        self._tensor, self.path = weakref.ref(tensor), path

    def content(self) -> Any:
        """The memory in which its numbers stand, and how often they were written to."""
        tensor = self._tensor()
        assert tensor is not None
        return tensor.detach(), version(tensor)

    def put(self, content: Any) -> None:
        """Put the same memory there; numbers that were written to are put back by `Written`."""
        tensor, (before, _) = self._tensor(), content
        if tensor is not None and not _same_memory(tensor, before):
            tensor.data = before

    @override
    def changed(self, content: Any) -> str:
        tensor, (before, written) = self._tensor(), content
        same = tensor is not None and _same_memory(tensor, before) and version(tensor) == written
        return "" if same else str(self.path)

    def now(self) -> Any:
        """Nothing: what can be captured does not read it."""


class GeneratorLocation(Location):
    """A generator of random numbers, whose place is no part of what is compared."""

    def __init__(self, of: Any, path: AccessPath) -> None:
        self.of, self.path = of, path

    def content(self) -> Any:
        """Where it stands."""
        match self.of:
            case random.Random():
                return self.of.getstate()
            case np.random.RandomState():
                return self.of.get_state(legacy=False)
            case torch.Generator():
                return self.of.get_state()
            case np.random.Generator():
                return self.of.bit_generator.state
        return self.of.state

    @override
    def put(self, content: Any) -> None:
        match self.of:
            case random.Random():
                self.of.setstate(content)
            case np.random.RandomState() | torch.Generator():
                self.of.set_state(content)
            case np.random.Generator():
                self.of.bit_generator.state = content
            case _:
                self.of.state = content

    @override
    def changed(self, content: Any) -> str:
        own = f"random numbers of a generator of its own, {self.path.name!r}"
        words = own if isinstance(self.of, torch.Generator) else "random numbers that are not torch's"
        return "" if _plain(self.content()) == _plain(content) else words

    def now(self) -> Any:
        """Nothing."""

    def key(self, say: Callable[[object], Any]) -> Any:
        """Nothing."""


def is_log(place: Location) -> bool:
    """Whether a place is a list that is no attribute of the cell: one to which a step may append."""
    return isinstance(place, ItemsLocation) and isinstance(place.container, list) and place.path.kind != ATTRIBUTE


GENERATORS = random.Random | np.random.Generator | np.random.RandomState | np.random.BitGenerator | torch.Generator


def _plain(state: Any) -> Any:
    """The state of a generator in what can be compared."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | Tensor) else state


def version(tensor: Tensor) -> int:
    """How often a tensor was written to; 0 where torch does not count."""
    return 0 if tensor.is_inference() else tensor._version


def _same_memory(a: Tensor, b: Tensor) -> bool:
    strided = a.layout == b.layout == torch.strided
    return not strided or a.is_meta or (a.untyped_storage()._cdata == b.untyped_storage()._cdata and a.shape == b.shape)


def _equal(a: object, b: object) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, ATOMS) and (a == b or _said(a) == _said(b)))


def _alike(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(_equal, a, b))


def _said(atom: object) -> Any:
    """A value such that what is no number is equal to itself, and -0 is not 0."""
    return type(atom), repr(atom) if isinstance(atom, float | complex | np.inexact) else atom


@cache
def _installed(module: str) -> bool:
    """Whether a module belongs to an installed package or to Python."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and (file.startswith(INSTALLED) or "-packages" in file)


@lru_cache(4096)
def _read(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The names that code reads, functions within it included; and those of them that are globals."""
    names, of_module = set(code.co_names), {i.argval for i in get_instructions(code) if "_GLOBAL" in i.opname}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more = _read(inner)
            names, of_module = names | more[0], of_module | more[1]
    return frozenset(names), frozenset(of_module)


def _parts(value: Any) -> Sequence[Any]:
    """What an object of Python's own, that calls functions, holds."""
    match value:
        case MethodType():
            return value.__self__, value.__func__
        case BuiltinFunctionType():
            return () if isinstance(value.__self__, ModuleType) else (value.__self__,)
        case partial():
            return value.func, *value.args, *value.keywords.values()
        case property():
            return value.fget, value.fset, value.fdel
        case staticmethod() | classmethod():
            return (value.__func__,)
        case cached_property():
            return (value.func,)
    return () if isinstance(value, nn.Module) else (getattr(value, "__wrapped__", None),)


def _slots(value: object) -> list[str]:
    """The names of the slots of an object."""
    names = [name for base in type(value).__mro__ for name, of in vars(base).items()
             if isinstance(of, MemberDescriptorType) and name[:2] != "__"]  # fmt: skip
    return names if any("__slots__" in vars(base) for base in type(value).__mro__) else []


HOLDING = (MethodType, BuiltinFunctionType, partial, property, staticmethod, classmethod, cached_property)


class _Same:
    """An object itself, as long as it lives, for a key."""

    def __init__(self, of: object) -> None:
        self._of, self._number = weakref.ref(of), id(of)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same):
            return False
        return self is other or (self._of() is other._of() is not None)

    def __hash__(self) -> int:
        return self._number


class PythonState:
    """What the step of a cell reaches.

    Args:
        cell: whose step it is.

    Attributes:
        places: where values stand.
        key: what stands there, to be compared with what another one finds: pairs of whether that is a log, and what.
        tensors: those that are no parameters or buffers of the cell.
        lost: what a step can change and nobody can put back, in words; or "".
        writes: a file or a logger to which a step can write, in words; or "".
    """

    def __init__(self, cell: nn.Module) -> None:
        self._inner = list(cell.modules())
        self._own = {type(module).__module__.partition(".")[0] for module in self._inner} - LIBRARIES
        self._names, before = {"forward"}, 0
        while len(self._names) > before:  # until no code is found that reads by other names
            before = len(self._names)
            self._begin(cell)
            for module in self._inner:
                self._object(module, None, DEPTH)
        types = tuple(_Same(type(module)) for module in self._inner)
        said = (place for place in self.places if not isinstance(place, TensorLocation | GeneratorLocation))
        self.key = ((False, types), *((is_log(place), place.key(self._say)) for place in said))

    def _begin(self, cell: nn.Module) -> None:
        self.places, self.tensors, self.lost, self.writes = list[Location](), list[Tensor](), "", ""
        self._seen: dict[int, tuple[int, object]] = {
            id(own): (-1, own) for own in (*cell.parameters(), *cell.buffers())
        }
        # What stands in them is said at places of its own; and their number.
        self._open = {id(module): number for number, module in enumerate(self._inner)}
        self._looked_up: dict[int, set[str]] = {}  # by globals or class: the names that have their places

    def _add(self, place: Location, depth: int) -> None:
        self.places.append(place)
        for path, value in place.values():
            self._follow(value, path, depth)

    def _follow(self, value: Any, path: AccessPath, depth: int) -> None:
        """Find the places behind a value that is reached by a path."""
        if isinstance(value, ATOMS) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self.tensors.append(value)
            self.places.append(TensorLocation(value, path))
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value, constructed=True)
        elif isinstance(value, ModuleType):
            if not self._library(value.__name__):
                self._look_up(vars(value), value, self._names, "a global")
        elif isinstance(value, tuple | frozenset):
            for item in value:
                self._follow(item, path, depth)
            self._class(type(value), constructed=False)
        elif isinstance(value, IOBase | logging.Logger | logging.LoggerAdapter):
            what = "a file" if isinstance(value, IOBase) else "a logger"
            self.writes = self.writes or f"{what}, {path.name!r}, to which a step may write"
        elif isinstance(value, np.ndarray) and value.dtype.hasobject:
            self.lost = self.lost or f"an array of objects, {path.name!r}, in which a step may change something"
        elif isinstance(value, GENERATORS | np.ndarray | bytearray | array):
            self._open.setdefault(id(value), len(self._open))
            self.places.append((GeneratorLocation if isinstance(value, GENERATORS) else ArrayLocation)(value, path))
        elif isinstance(value, ContextVar):
            self._follow(value.get(None), path, depth)
        else:
            self._composed(value, path, depth)

    def _composed(self, value: Any, path: AccessPath, depth: int) -> None:
        if isinstance(value, list | dict | set | deque):
            self._open.setdefault(id(value), len(self._open))
            self._add(ItemsLocation(value, path), depth)
        elif isinstance(value, Iterator) and not hasattr(value, "__dict__") and not _slots(value):
            self.lost = self.lost or f"an iterator, {path.name!r}, from which a step may take something"
        for part in _parts(value):
            self._follow(part, path, depth)
        if not isinstance(value, HOLDING):
            self._object(value, path, depth)

    def _object(self, value: Any, path: AccessPath | None, depth: int) -> None:
        """Find the attributes of an object: those that code names, where all code that reads them is at hand."""
        names = self._names if self._class(type(value), constructed=False) else None
        if names is None and path is not None:
            depth -= 1
        if depth < 0 and not isinstance(value, nn.Module):
            return
        if isinstance(getattr(value, "__dict__", None), dict):
            self._open.setdefault(id(value), len(self._open))
            self._add(NamespaceLocation(value, names, ATTRIBUTE, path), depth)
        if slots := _slots(value):
            self._open.setdefault(id(value), len(self._open))
            self._add(SlotsLocation(value, slots, path or AccessPath(ATTRIBUTE, slots[0])), depth)
        if isinstance(value, nn.Module):
            self.places.append(ItemsLocation(value._modules, path or AccessPath(ATTRIBUTE, "_modules")))
            if path is not None:  # a module that is not within the cell
                for own in (value._modules, value._parameters, value._buffers):
                    for name, inner in own.items():
                        if names is None or name in names:
                            self._follow(inner, path._replace(itself=False), depth)

    def _function(self, function: FunctionType) -> None:
        code, ours = function.__code__, not self._library(function.__globals__.get("__name__", ""))
        names, of_module = _read(code)
        if ours:
            self._names |= names
            if unseen := sorted(of_module & ANYTHING):
                self.lost = self.lost or f"{unseen[0]}(), in {function.__name__!r}, by which a step may change anything"
            self._look_up(function.__globals__, function.__globals__, of_module, "a global")
        # What a library has wrapped around a function of somebody else's is followed to that.
        for number in range(len(code.co_freevars)):
            self._add(VariableLocation(function, number), DEPTH if ours else 0)
        if not ours:
            return
        if vars(function):
            self._add(NamespaceLocation(function, None, ATTRIBUTE, AccessPath("a function", function.__name__)), DEPTH)
        arguments = code.co_varnames[: code.co_argcount]
        defaults = function.__defaults__ or ()
        named = dict(zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True))
        for name, value in {**named, **(function.__kwdefaults__ or {})}.items():
            self._follow(value, AccessPath("a default argument", name), DEPTH)

    def _class(self, cls: type, constructed: bool) -> bool:
        """Find what the code of a class reads; whether there is no other code that reads attributes of its objects."""
        visible = not self._names & UNSEEN
        for base in cls.__mro__:
            if base in (object, nn.Module) or base.__module__ in ("abc", "typing"):
                continue
            if self._library(base.__module__):
                visible = False
                continue
            names = {
                name for name, value in vars(base).items()
                if name in self._names or (constructed and name in CONSTRUCTING)
                or (name[:2] == "__" and name not in NOT_CALLED and isinstance(value, FunctionType))
            }  # fmt: skip
            self._look_up(base, base, names, "a class attribute")
        return visible

    def _look_up(self, of: Any, owner: Any, names: Iterable[str], kind: str) -> None:
        looked_up = self._looked_up.setdefault(id(of), set())
        if new := set(names) - looked_up:
            looked_up |= new
            self._add(NamespaceLocation(owner, new, kind), DEPTH)

    def _library(self, module: str) -> bool:
        """Whether a module is one of a library, which reads what it is given; and none of the cell's own."""
        package = module.partition(".")[0]
        return package != "__main__" and package not in self._own and (package in LIBRARIES or _installed(module))

    def _say(self, value: Any) -> Any:
        """A value for a key, which keeps nothing alive."""
        if isinstance(value, ATOMS):
            return _said(value)
        if isinstance(value, Tensor):
            return "tensor", value.shape, value.dtype, value.device, value.requires_grad
        if isinstance(value, tuple):
            return _Same(type(value)), tuple(map(self._say, value))
        if isinstance(value, FunctionType):
            return value.__code__
        if isinstance(value, HOLDING):
            own = value.__name__ if isinstance(value, BuiltinFunctionType) else ""
            return type(value), own, tuple(map(self._say, _parts(value)))
        number = self._open.get(id(value))
        try:
            return _Same(value) if number is None else (_Same(type(value)), number)
        except TypeError:  # of what cannot be referred to weakly
            return _Same(type(value))
