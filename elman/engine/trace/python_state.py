"""Finds what a step reads besides its tensors: attributes, globals, closures, default arguments.

The code of a step contains the names that it reads. Starting from the cell, these names are followed through objects,
containers and functions to the locations that hold values. This detects changes between calls, and allows a trial run
of a step to be undone. Libraries are assumed to read nothing but their arguments.
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

MAX_DEPTH = 2  # nested library objects, all of whose attributes are followed
ATOMS = (Number, str, bytes, type(None), Enum, np.generic, torch.dtype, torch.device, range, slice, type(Ellipsis))
MODULE_ATTRIBUTES = frozenset(vars(nn.Module())) - {"training"}  # attributes of every module, which torch changes
LIBRARIES = {"torch", "numpy", "elman", *sys.stdlib_module_names}
INSTALL_FOLDERS = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")})
# Code that contains one of these names may read attributes by names that it does not contain.
DYNAMIC_ACCESS = {"getattr", "setattr", "hasattr", "vars", "__dict__", "eval", "exec", "attrgetter", "__getattribute__"}
DYNAMIC_GLOBALS = {"globals", "eval", "exec"}  # the same for globals, which it may also write
CONSTRUCTORS = {"__init__", "__new__", "__post_init__"}
NOT_CALLED = {  # special methods that a step does not call by an operator
    *CONSTRUCTORS, "__repr__", "__str__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__del__",
    "__init_subclass__", "__class_getitem__", "__deepcopy__", "__copy__", "__dir__", "__sizeof__",
}  # fmt: skip
MISSING = object()
ATTRIBUTE = "an attribute"


class Scratch:
    """Base class of objects that hold no state: memory that calls reuse, and write before they read it."""


WITHOUT_STATE = (*ATOMS, Scratch)  # values that are not followed


class AccessPath(NamedTuple):
    """The name through which a step reaches a location, for messages."""

    kind: str  # such as "an attribute"
    name: str
    is_direct: bool = True  # whether the location is the name's own value, rather than something within that

    def __str__(self) -> str:
        if self.is_direct:
            return f"{self.kind}, {self.name!r}, which the step changes"
        return f"{self.name!r}, which the step modifies"


class Location(ABC):
    """A place that holds values which may change."""

    path: AccessPath

    @abstractmethod
    def read(self) -> Any:
        """Return a copy of the content, in a form that depends on the class."""

    @abstractmethod
    def restore(self, content: Any) -> None:
        """Put back content that was read before, if it has changed."""

    @abstractmethod
    def describe_change(self, content: Any) -> str:
        """Describe what has changed since the content was read; "" if nothing has."""

    def values(self) -> Sequence[tuple[AccessPath, object]]:
        """Return the values that the location holds, each with the path through which it is reached."""
        return ()

    def quick_key(self) -> Any:
        """Return a key that is fast to compare, and is valid as long as the values of the location are alive."""
        return self.read()

    def key(self, key_of: Callable[[object], Any]) -> Any:
        """Return a hashable key of the content, which keeps nothing alive; `key_of` returns that of a value."""
        return tuple(key_of(value) for _, value in self.values())


class NamespaceLocation(Location):
    """The attributes of an object or a class, or some names of a module. Its content is a dictionary by name.

    Args:
        owner: The object, class or module, or a dictionary of globals.
        names: The names that are read; None for all.
        kind: What messages call such a name.
        path: The path of the owner, if messages should name that instead.
    """

    def __init__(self, owner: Any, names: Iterable[str] | None, kind: str, path: AccessPath | None = None) -> None:
        try:
            self._owner: Callable[[], Any] = weakref.ref(owner)
        except TypeError:
            self._owner = lambda: owner
        self._is_partial = isinstance(owner, dict | ModuleType)  # names that are not read do not concern the step
        self._hidden = MODULE_ATTRIBUTES if isinstance(owner, nn.Module) else frozenset[str]()
        namespace = self._namespace()
        present = namespace.keys() - self._hidden
        selected = present if names is None else names if self._is_partial else present & set(names)
        self.names = tuple(sorted(selected))
        self._kind, self._path = kind, path

    def _namespace(self) -> Mapping[str, Any]:
        owner = self._owner()
        return owner if isinstance(owner, dict) else vars(owner)

    def _path_of(self, name: str) -> AccessPath:
        return AccessPath(self._kind, name) if self._path is None else self._path._replace(is_direct=False)

    @override
    def read(self) -> dict[str, Any]:
        namespace = self._namespace()
        names = self.names if self._is_partial else namespace.keys() - self._hidden
        return {name: namespace[name] for name in names if name in namespace}

    @override
    def restore(self, content: dict[str, Any]) -> None:
        owner, current = self._owner(), self.read()
        for name in {*current, *content}:
            if current.get(name, MISSING) is content.get(name, MISSING):
                continue
            if isinstance(owner, type):  # its dictionary is read-only
                delattr(owner, name) if name not in content else setattr(owner, name, content[name])
            elif name in content:
                self._namespace()[name] = content[name]  # type: ignore[index]
            else:
                del self._namespace()[name]  # type: ignore[attr-defined]

    @override
    def describe_change(self, content: dict[str, Any]) -> str:
        current = self.read()
        for name in sorted({*current, *content}):
            if not _equal(current.get(name, MISSING), content.get(name, MISSING)):
                return str(self._path_of(name))
        return ""

    @override
    def values(self) -> Sequence[tuple[AccessPath, object]]:
        namespace = self._namespace()
        return [(self._path_of(name), namespace[name]) for name in self.names if name in namespace]

    @override
    def quick_key(self) -> Any:
        owner = self._owner()
        namespace = owner if type(owner) is dict else vars(owner)
        ids = [*map(id, map(namespace.get, self.names))]
        if not self._is_partial:
            ids.append(len(namespace))
        return ids

    @override
    def key(self, key_of: Callable[[object], Any]) -> Any:
        namespace = self._namespace()
        return tuple((name, key_of(namespace[name])) for name in self.names if name in namespace)


class SlotsLocation(Location):
    """The attributes of an object with __slots__."""

    def __init__(self, owner: Any, names: Iterable[str], path: AccessPath) -> None:
        self.owner, self.names, self.path = owner, tuple(names), path._replace(is_direct=False)

    @override
    def read(self) -> list[Any]:
        return [getattr(self.owner, name, MISSING) for name in self.names]

    @override
    def restore(self, content: list[Any]) -> None:
        for name, current, before in zip(self.names, self.read(), content, strict=True):
            if before is MISSING and current is not MISSING:
                object.__delattr__(self.owner, name)
            elif current is not before:
                object.__setattr__(self.owner, name, before)

    @override
    def describe_change(self, content: list[Any]) -> str:
        return "" if _all_equal(self.read(), content) else str(self.path)

    @override
    def values(self) -> Sequence[tuple[AccessPath, object]]:
        return [(self.path, value) for value in self.read() if value is not MISSING]

    @override
    def quick_key(self) -> Any:
        return list(map(id, self.read()))


class VariableLocation(Location):
    """A closure variable of a function. Holds no strong reference to the function, which may refer to the cell."""

    def __init__(self, function: FunctionType, index: int) -> None:
        self._function, self._index = weakref.ref(function), index
        self.path = AccessPath("a variable of an enclosing function", function.__code__.co_freevars[index])

    def _closure_cell(self) -> CellType | None:
        function = self._function()
        return None if function is None else (function.__closure__ or ())[self._index]

    @override
    def read(self) -> Any:
        try:
            cell = self._closure_cell()
            return MISSING if cell is None else cell.cell_contents
        except ValueError:
            return MISSING

    @override
    def restore(self, content: Any) -> None:
        cell = self._closure_cell()
        if cell is None:
            return
        if content is not MISSING:
            cell.cell_contents = content
        elif self.read() is not MISSING:
            del cell.cell_contents

    @override
    def describe_change(self, content: Any) -> str:
        return "" if _equal(self.read(), content) else str(self.path)

    @override
    def values(self) -> Sequence[tuple[AccessPath, object]]:
        value = self.read()
        return [] if value is MISSING else [(self.path, value)]

    @override
    def quick_key(self) -> Any:
        return id(self.read())


class ItemsLocation(Location):
    """The items of a list, a set, a dictionary or a deque. Its content is a shallow copy."""

    def __init__(self, container: Any, path: AccessPath) -> None:
        self.container, self.path = container, path

    @override
    def read(self) -> Any:
        return dict(self.container) if isinstance(self.container, dict) else list(self.container)

    @override
    def restore(self, content: Any) -> None:
        if not self.describe_change(content):
            return
        self.container.clear()
        (self.container.update if isinstance(self.container, dict | set) else self.container.extend)(content)

    @override
    def describe_change(self, content: Any) -> str:
        current = self.read()
        if isinstance(self.container, set):
            is_equal = set(map(id, current)) == set(map(id, content)) or set(current) == set(content)
        elif isinstance(current, dict):
            is_equal = _all_equal(list(current), list(content))
            is_equal = is_equal and _all_equal(list(current.values()), list(content.values()))
        else:
            is_equal = _all_equal(current, content)
        return "" if is_equal else str(self.path)

    @override
    def values(self) -> Sequence[tuple[AccessPath, object]]:
        items = self.container
        items = [*items.keys(), *items.values()] if isinstance(items, dict) else list(items)
        return [(self.path, item) for item in items]

    @override
    def quick_key(self) -> Any:
        items = self.container
        return [*map(id, items), *map(id, items.values())] if isinstance(items, dict) else [*map(id, items)]


class ArrayLocation(Location):
    """The numbers of a NumPy array, an array.array or a bytearray. Its content is their bytes."""

    def __init__(self, array: Any, path: AccessPath) -> None:
        self.array, self.path = array, path

    @override
    def read(self) -> Any:
        return bytes(self.array) if isinstance(self.array, bytearray) else self.array.tobytes()

    @override
    def restore(self, content: Any) -> None:
        if self.read() == content:
            return
        if isinstance(self.array, np.ndarray):
            self.array[...] = np.frombuffer(content, self.array.dtype).reshape(self.array.shape)
        else:
            del self.array[:]
            self.array.extend(content) if isinstance(self.array, bytearray) else self.array.frombytes(content)

    @override
    def describe_change(self, content: Any) -> str:
        return "" if self.read() == content else str(self.path)

    @override
    def key(self, key_of: Callable[[object], Any]) -> Any:
        return str(getattr(self.array, "dtype", "")), getattr(self.array, "shape", ()), self.read()


class TensorLocation(Location):
    """A tensor that is no parameter or buffer of the cell. Its content is its memory and version, not its numbers."""

    def __init__(self, tensor: Tensor, path: AccessPath) -> None:
        self._tensor, self.path = weakref.ref(tensor), path

    @override
    def read(self) -> Any:
        tensor = self._tensor()
        assert tensor is not None
        return tensor.detach(), version(tensor)

    @override
    def restore(self, content: Any) -> None:
        tensor, (before, _) = self._tensor(), content  # `WriteMonitor` restores the numbers
        if tensor is not None and not _shares_memory(tensor, before):
            tensor.data = before

    @override
    def describe_change(self, content: Any) -> str:
        tensor, (before, version_before) = self._tensor(), content
        is_same = tensor is not None and _shares_memory(tensor, before) and version(tensor) == version_before
        return "" if is_same else str(self.path)

    @override
    def quick_key(self) -> Any:
        return None  # a step that reads the tensor cannot be captured


class GeneratorLocation(Location):
    """A random generator. Its content is its state, which is not part of the key."""

    def __init__(self, generator: Any, path: AccessPath) -> None:
        self.generator, self.path = generator, path

    @override
    def read(self) -> Any:
        match self.generator:
            case random.Random():
                return self.generator.getstate()
            case np.random.RandomState():
                return self.generator.get_state(legacy=False)
            case torch.Generator():
                return self.generator.get_state()
            case np.random.Generator():
                return self.generator.bit_generator.state
        return self.generator.state

    @override
    def restore(self, content: Any) -> None:
        match self.generator:
            case random.Random():
                self.generator.setstate(content)
            case np.random.RandomState() | torch.Generator():
                self.generator.set_state(content)
            case np.random.Generator():
                self.generator.bit_generator.state = content
            case _:
                self.generator.state = content

    @override
    def describe_change(self, content: Any) -> str:
        if _comparable(self.read()) == _comparable(content):
            return ""
        if isinstance(self.generator, torch.Generator):
            return f"random numbers of a separate generator, {self.path.name!r}"
        return "random numbers that do not come from torch"

    @override
    def quick_key(self) -> Any:
        return None

    @override
    def key(self, key_of: Callable[[object], Any]) -> Any:
        return None


def is_log(location: Location) -> bool:
    """Whether a location is a list that is no attribute of the cell; a step may append to it if logs are allowed."""
    is_list = isinstance(location, ItemsLocation) and isinstance(location.container, list)
    return is_list and location.path.kind != ATTRIBUTE


GENERATORS = random.Random | np.random.Generator | np.random.RandomState | np.random.BitGenerator | torch.Generator


def _comparable(state: Any) -> Any:
    """Convert the state of a generator to types that == compares to a bool."""
    if isinstance(state, dict):
        return {name: _comparable(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | Tensor) else state


def version(tensor: Tensor) -> int:
    """Return how often a tensor was written to in place; 0 for inference tensors, for which torch does not count."""
    return 0 if tensor.is_inference() else tensor._version


def _shares_memory(a: Tensor, b: Tensor) -> bool:
    strided = a.layout == b.layout == torch.strided
    return not strided or a.is_meta or (a.untyped_storage()._cdata == b.untyped_storage()._cdata and a.shape == b.shape)


def _equal(a: object, b: object) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, ATOMS) and (a == b or _atom_key(a) == _atom_key(b)))


def _all_equal(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(_equal, a, b))


def _atom_key(atom: object) -> Any:
    """Return a key of an atom. Unlike the atoms, the keys of NaN are equal, and those of 0.0 and -0.0 differ."""
    return type(atom), repr(atom) if isinstance(atom, float | complex | np.inexact) else atom


@cache
def _is_installed(module: str) -> bool:
    """Whether a module belongs to an installed package or to Python."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and (file.startswith(INSTALL_FOLDERS) or "-packages" in file)


@lru_cache(4096)
def _names_read(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that code and the functions defined in it read, and those of them that are globals."""
    names, global_names = set(code.co_names), {i.argval for i in get_instructions(code) if "_GLOBAL" in i.opname}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner_names, inner_global_names = _names_read(constant)
            names, global_names = names | inner_names, global_names | inner_global_names
    return frozenset(names), frozenset(global_names)


def _callable_parts(value: Any) -> Sequence[Any]:
    """Return the functions, arguments and owners that a callable of Python's standard types refers to."""
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
    """Return the names in the __slots__ of an object."""
    names = [name for base in type(value).__mro__ for name, member in vars(base).items()
             if isinstance(member, MemberDescriptorType) and name[:2] != "__"]  # fmt: skip
    return names if any("__slots__" in vars(base) for base in type(value).__mro__) else []


CALLABLES = (MethodType, BuiltinFunctionType, partial, property, staticmethod, classmethod, cached_property)


class _IdentityKey:
    """A key that equals only keys of the same object, as long as that is alive."""

    def __init__(self, value: object) -> None:
        self._reference, self._id = weakref.ref(value), id(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _IdentityKey):
            return False
        return self is other or (self._reference() is other._reference() is not None)

    def __hash__(self) -> int:
        return self._id


class PythonState:
    """The values that the step of a cell can reach.

    Args:
        cell: The cell.

    Attributes:
        locations: The locations that hold the values.
        key: Hashable; equal for two states of the same content. Pairs of whether a location is a log, and its key.
        tensors: Tensors that are no parameters or buffers of the cell.
        irreversible: Describes something that a step can change and that cannot be restored; "" if there is none.
        log_writer: Describes a file or a logger to which a step can write; "" if there is none.
    """

    def __init__(self, cell: nn.Module) -> None:
        self._modules = list(cell.modules())
        self._cell_packages = {type(module).__module__.partition(".")[0] for module in self._modules} - LIBRARIES
        self._names, previous_count = {"forward"}, 0
        while len(self._names) > previous_count:  # the code that is reached may read further names
            previous_count = len(self._names)
            self._reset(cell)
            for module in self._modules:
                self._visit_object(module, None, MAX_DEPTH)
        types = tuple(_IdentityKey(type(module)) for module in self._modules)
        without_key = TensorLocation | GeneratorLocation
        keyed = (location for location in self.locations if not isinstance(location, without_key))
        self.key = ((False, types), *((is_log(location), location.key(self._key_of)) for location in keyed))

    def _reset(self, cell: nn.Module) -> None:
        self.locations, self.tensors, self.irreversible, self.log_writer = list[Location](), list[Tensor](), "", ""
        # By id; the values are kept alive, so that their ids stay unique.
        self._visited: dict[int, object] = {id(tensor): tensor for tensor in (*cell.parameters(), *cell.buffers())}
        # Objects whose content has locations of its own: keys refer to them by number.
        self._numbers = {id(module): number for number, module in enumerate(self._modules)}
        self._names_visited: dict[int, set[str]] = {}  # by the id of a dictionary of globals or a class

    def _add(self, location: Location, depth: int) -> None:
        self.locations.append(location)
        for path, value in location.values():
            self._visit(value, path, depth)

    def _visit(self, value: Any, path: AccessPath, depth: int) -> None:
        """Add the locations that can be reached from a value."""
        if isinstance(value, WITHOUT_STATE) or id(value) in self._visited:
            return
        self._visited[id(value)] = value
        if isinstance(value, Tensor):
            self.tensors.append(value)
            self.locations.append(TensorLocation(value, path))
        elif isinstance(value, FunctionType):
            self._visit_function(value)
        elif isinstance(value, type):
            self._visit_class(value, is_constructed=True)
        elif isinstance(value, ModuleType):
            if not self._is_library(value.__name__):
                self._visit_names(vars(value), value, self._names, "a global")
        elif isinstance(value, tuple | frozenset):
            for item in value:
                self._visit(item, path, depth)
            self._visit_class(type(value), is_constructed=False)
        elif isinstance(value, IOBase | logging.Logger | logging.LoggerAdapter):
            kind = "a file" if isinstance(value, IOBase) else "a logger"
            self.log_writer = self.log_writer or f"{kind}, {path.name!r}, to which a step may write"
        elif isinstance(value, np.ndarray) and value.dtype.hasobject:
            self._add_irreversible(f"an array of objects, {path.name!r}, which a step may modify")
        elif isinstance(value, GENERATORS | np.ndarray | bytearray | array):
            self._number(value)
            self.locations.append((GeneratorLocation if isinstance(value, GENERATORS) else ArrayLocation)(value, path))
        elif isinstance(value, ContextVar):
            self._visit(value.get(None), path, depth)
        else:
            self._visit_composite(value, path, depth)

    def _number(self, value: Any) -> None:
        self._numbers.setdefault(id(value), len(self._numbers))

    def _add_irreversible(self, description: str) -> None:
        self.irreversible = self.irreversible or description

    def _visit_composite(self, value: Any, path: AccessPath, depth: int) -> None:
        if isinstance(value, list | dict | set | deque):
            self._number(value)
            self._add(ItemsLocation(value, path), depth)
        elif isinstance(value, Iterator) and not hasattr(value, "__dict__") and not _slots(value):
            self._add_irreversible(f"an iterator, {path.name!r}, which a step may advance")
        for part in _callable_parts(value):
            self._visit(part, path, depth)
        if not isinstance(value, CALLABLES):
            self._visit_object(value, path, depth)

    def _visit_object(self, value: Any, path: AccessPath | None, depth: int) -> None:
        """Visit the attributes of an object: those that code names, or all if not all code that reads them is known."""
        names = self._names if self._visit_class(type(value), is_constructed=False) else None
        if names is None and path is not None:
            depth -= 1
        if depth < 0 and not isinstance(value, nn.Module):
            return
        if isinstance(getattr(value, "__dict__", None), dict):
            self._number(value)
            self._add(NamespaceLocation(value, names, ATTRIBUTE, path), depth)
        if slots := _slots(value):
            self._number(value)
            self._add(SlotsLocation(value, slots, path or AccessPath(ATTRIBUTE, slots[0])), depth)
        if isinstance(value, nn.Module):
            self.locations.append(ItemsLocation(value._modules, path or AccessPath(ATTRIBUTE, "_modules")))
            if path is not None:  # a module that is not within the cell
                for members in (value._modules, value._parameters, value._buffers):
                    for name, member in members.items():
                        if names is None or name in names:
                            self._visit(member, path._replace(is_direct=False), depth)

    def _visit_function(self, function: FunctionType) -> None:
        code, is_library = function.__code__, self._is_library(function.__globals__.get("__name__", ""))
        names, global_names = _names_read(code)
        if not is_library:
            self._names |= names
            if dynamic := sorted(global_names & DYNAMIC_GLOBALS):
                self._add_irreversible(f"{dynamic[0]}(), in {function.__name__!r}, which may change anything")
            self._visit_names(function.__globals__, function.__globals__, global_names, "a global")
        # Closures of library functions are followed as well: they may wrap a function of the cell's code.
        for index in range(len(code.co_freevars)):
            self._add(VariableLocation(function, index), 0 if is_library else MAX_DEPTH)
        if is_library:
            return
        if vars(function):
            path = AccessPath("a function", function.__name__)
            self._add(NamespaceLocation(function, None, ATTRIBUTE, path), MAX_DEPTH)
        arguments = code.co_varnames[: code.co_argcount]
        defaults = function.__defaults__ or ()
        named_defaults = dict(zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True))
        for name, value in {**named_defaults, **(function.__kwdefaults__ or {})}.items():
            self._visit(value, AccessPath("a default argument", name), MAX_DEPTH)

    def _visit_class(self, cls: type, is_constructed: bool) -> bool:
        """Visit what the code of a class reads; return whether all code that reads attributes of instances is known."""
        is_known = not self._names & DYNAMIC_ACCESS
        for base in cls.__mro__:
            if base in (object, nn.Module) or base.__module__ in ("abc", "typing"):
                continue
            if self._is_library(base.__module__):
                is_known = False
                continue
            names = {
                name for name, value in vars(base).items()
                if name in self._names or (is_constructed and name in CONSTRUCTORS)
                or (name[:2] == "__" and name not in NOT_CALLED and isinstance(value, FunctionType))
            }  # fmt: skip
            self._visit_names(base, base, names, "a class attribute")
        return is_known

    def _visit_names(self, namespace: Any, owner: Any, names: Iterable[str], kind: str) -> None:
        visited = self._names_visited.setdefault(id(namespace), set())
        if new_names := set(names) - visited:
            visited |= new_names
            self._add(NamespaceLocation(owner, new_names, kind), MAX_DEPTH)

    def _is_library(self, module: str) -> bool:
        """Whether a module belongs to a library, of which the cell is no part."""
        package = module.partition(".")[0]
        if package == "__main__" or package in self._cell_packages:
            return False
        return package in LIBRARIES or _is_installed(module)

    def _key_of(self, value: Any) -> Any:
        """Return a key of a value, which does not keep it alive."""
        if isinstance(value, ATOMS):
            return _atom_key(value)
        if isinstance(value, Tensor):
            return "tensor", value.shape, value.dtype, value.device, value.requires_grad
        if isinstance(value, tuple):
            return _IdentityKey(type(value)), tuple(map(self._key_of, value))
        if isinstance(value, FunctionType):
            return value.__code__
        if isinstance(value, CALLABLES):
            name = value.__name__ if isinstance(value, BuiltinFunctionType) else ""
            return type(value), name, tuple(map(self._key_of, _callable_parts(value)))
        number = self._numbers.get(id(value))
        try:
            return _IdentityKey(value) if number is None else (_IdentityKey(type(value)), number)
        except TypeError:  # the object does not support weak references
            return _IdentityKey(type(value))
