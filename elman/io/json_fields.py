"""Check values read from files against the types that dataclass fields declare."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from elman.errors import BadInput

TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    Path: "a path",
    NoneType: "null",
    list: "a list",
    dict: "an object",
}
# Exceptions that code may raise when it restores an object from a damaged file.
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError)


@contextmanager
def restoring(path: Path, what: str) -> Iterator[None]:
    """Turn errors that the body raises on damaged file content into `BadInput`.

    Args:
        path: the file that the content comes from.
        what: what the file is expected to contain, for example "the shape of a tagger".

    Raises:
        BadInput: if the body raises one of `DAMAGE`.
    """
    try:
        yield
    except DAMAGE as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"nothing of the name {lines[0]}" if isinstance(error, KeyError) else lines[0]
        raise BadInput(f"{path}: expected {what}, got something else: {reason}") from None


def parsed(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: if the text is not JSON or is nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise ValueError("lists in lists, or objects in objects, too many to be read") from None


def check_all(record: Any, least: int) -> None:
    """Check the types of a dataclass's fields, and that its whole numbers are large enough.

    Args:
        record: an instance of the dataclass.
        least: smallest valid value of whole numbers.

    Raises:
        ValueError: if a field is invalid.
    """
    hints = get_type_hints(type(record))
    for field in fields(record):
        name, kind = field.name, hints[field.name]
        value = getattr(record, name)
        check(name, value, kind)
        if kind is int and value < least:
            raise ValueError(f"{name}: expected a whole number from {least} up, got {value}")


def check(name: str, value: Any, kind: Any) -> None:
    """Check that a value has a type. Numbers must be finite.

    Args:
        name: name of the value, for the error message.
        value: the value.
        kind: a type or type annotation.

    Raises:
        ValueError: if the value does not have the type.

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
        return any(_fits(value, alternative) for alternative in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(element, inner[0]) for element in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(element, inner[1]) for element in value.values())
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
        return f"{TYPE_NAMES[origin]} with {_spelled(inner[-1])} in each place"
    return TYPE_NAMES.get(kind, getattr(kind, "__name__", str(kind)))
