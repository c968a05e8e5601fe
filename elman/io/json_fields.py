"""Values that a file held, against what the fields of a dataclass are declared to be."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from elman.errors import BadInput

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    Path: "a path",
    NoneType: "null",
    list: "a list",
    dict: "an object",
}
# What code that restores something of a damaged file may meet with.
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError)


@contextmanager
def restoring(path: Path, what: str) -> Iterator[None]:
    """The body makes something of what a file has held; where it cannot, the file is to blame.

    Args:
        path: of the file.
        what: is expected in it: "the shape of a tagger".

    Raises:
        BadInput: where the body fails.
    """
    try:
        yield
    except DAMAGE as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"nothing of the name {lines[0]}" if isinstance(error, KeyError) else lines[0]
        raise BadInput(f"{path}: expected {what}, got something else: {reason}") from None


def parsed(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: for what is none, or is deeper than can be read.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise ValueError("lists in lists, or objects in objects, too many to be read") from None


def check_all(one: Any, least: int) -> None:
    """Whether the fields of a dataclass are what they are declared to be, and whole numbers at least so many.

    Raises:
        ValueError: if one is not.
    """
    hints = get_type_hints(type(one))
    for field in fields(one):
        name, kind = field.name, hints[field.name]
        value = getattr(one, name)
        check(name, value, kind)
        if kind is int and value < least:
            raise ValueError(f"{name}: expected a whole number from {least} up, got {value}")


def check(name: str, value: Any, kind: Any) -> None:
    """Whether a value is of a type; numbers have to be finite.

    Raises:
        ValueError: if it is not.

    >>> check("rate", 8000, int), check("mean", [1.0, 2], list[float] | None)
    (None, None)
    """
    if not _fits(value, kind):
        raise ValueError(f"{name}: expected {_spelled(kind)}, got {value!r:.40}")


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is Annotated:
        return _fits(value, inner[0])
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if kind is Path:
        return isinstance(value, str | Path)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _spelled(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _spelled(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(map(_spelled, inner))
    if origin in (list, dict):
        return f"{WORDS[origin]} with {_spelled(inner[-1])} in each place"
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))
