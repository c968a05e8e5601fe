"""What a step does beside returning its state: it is told, and undone, as far as Python lets it be seen."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from elman.through_time.frozen import DEPTH, NOT_LOOKED_INTO
from elman.through_time.refused import CannotCapture, line

CONTAINERS = (list, dict, set)
SIMPLE = (bool, int, float, str)
NO_ATTRIBUTES = frozenset(vars(nn.Module()))  # of every module, and changed by torch itself
READING = {
    Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__repr__, Tensor.__format__, Tensor.data_ptr,
    Tensor.untyped_storage, Tensor.storage, Tensor.__dlpack__, Tensor.__reduce_ex__,
}  # fmt: skip


@contextmanager
def nothing_cached() -> Iterator[None]:
    """Parametrized weights are computed anew within, and those that torch has in its cache stay there."""
    before, kept = parametrize._cache_enabled, dict(parametrize._cache)
    parametrize._cache_enabled = 0
    try:
        yield
    finally:
        parametrize._cache_enabled = before
        parametrize._cache.update(kept)


@contextmanager
def without_effects(cell: nn.Module) -> Iterator[None]:
    """Undo what is done to the attributes of a cell's modules, and to the random numbers of Python and NumPy.

    Raises:
        CannotCapture: at the end, if any of it was done.
    """
    modules = [(vars(module), _attributes(module)) for module in cell.modules()]
    named = [(name, value) for _, own in modules for name, value in own.items()]
    contents = [(_words(name, value), held, copy(held)) for name, value in named for held in _held(value)]
    drawn = _drawn()
    try:
        yield
        why = next(_changed(modules, contents), "")
        if not _same(_drawn(), drawn):
            why = "random numbers that are not torch's"
        if why:
            raise CannotCapture(why)
    finally:
        for now, own in modules:
            for name in set(now) - set(own) - NO_ATTRIBUTES:
                del now[name]
            now.update(own)
        for _, container, content in contents:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(content)
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])


def _held(value: object, depth: int = DEPTH) -> Iterator[Any]:
    """The containers that a value is, or whose content it has as its attributes, and those within them."""
    own: Any
    if type(value) in CONTAINERS:
        own, inner = value, depth
    elif depth and not isinstance(value, NOT_LOOKED_INTO) and getattr(value, "__dict__", None):
        own, inner = value.__dict__, depth - 1
    else:
        return
    yield own
    for item in own.values() if isinstance(own, dict) else own:
        yield from _held(item, inner)


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in NO_ATTRIBUTES}


def _words(name: str, value: object = None) -> str:
    """What is told of an attribute that is another after the step, or of one that is an object with other content."""
    if type(value) in (type(None), *CONTAINERS):
        return f"an attribute, {name!r}, which the step changes"
    return f"{name!r}, in which the step changes something"


def _changed(
    modules: list[tuple[dict[str, Any], dict[str, Any]]], contents: list[tuple[str, Any, Any]]
) -> Iterator[str]:
    """What has been changed, in words."""
    for now, own in modules:
        yield from (
            _words(name) for name in now.keys() - NO_ATTRIBUTES
            if name not in own or not _equal(now[name], own[name])
        )  # fmt: skip
    yield from (words for words, held, content in contents if not _alike(held, content))


def _alike(now: Any, before: Any) -> bool:
    """Whether two containers hold the same things."""
    if len(now) != len(before):
        return False
    values = (now.values(), before.values()) if isinstance(now, dict) else (now, before)
    return all(_equal(a, b) for a, b in zip(*values, strict=True))


def _equal(a: object, b: object) -> bool:
    return a is b or (isinstance(a, SIMPLE) and type(a) is type(b) and a == b)


def _drawn() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()


def _same(a: tuple[Any, Any], b: tuple[Any, Any]) -> bool:
    return a[0] == b[0] and all(np.array_equal(x, y) for x, y in zip(a[1], b[1], strict=True))


class Unread(TorchFunctionMode):
    """Under it, no number can be taken out of a tensor but by an operation.

    Raises:
        CannotCapture: from where it is tried.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READING:
            raise CannotCapture(f"a number read out of a tensor{line()}")
        with torch._C.DisableTorchFunction():
            return func(*args, **(kwargs or {}))
