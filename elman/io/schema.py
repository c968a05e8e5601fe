"""Validate options and the JSON files of runs by pydantic, with errors in one line: where: expected X, got Y."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from elman.errors import BadInput
from elman.io.names import perhaps

T = TypeVar("T")
# An integer is neither a float nor a bool, a text is not a number, and no number is NaN or infinite.
STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
MAX_INT = 2**31 - 1  # largest value of an integer option
Size = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
BeamWidth = Annotated[int, Field(ge=1, le=1000)]  # a wider beam finds nothing better, and takes memory in proportion
SampleRate = Annotated[int, Field(ge=1000, le=192_000)]  # in Hz
Positive = Annotated[float, Field(gt=0)]

# Exceptions that code may raise when it restores an object from a damaged file.
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError)
_NAMES = {"integer": "an integer", "number": "a number", "boolean": "true or false", "array": "a list"}
_NAMES |= {"string": "a text", "object": "an object", "path": "a path"}


@contextmanager
def restoring(path: Path, what: str, damage: tuple[type[Exception], ...] = DAMAGE) -> Iterator[None]:
    """Turn errors that the body raises on damaged file content into `BadInput`.

    Args:
        path: the file that the content comes from.
        what: what the file is expected to contain, for example "the shape of a tagger".
        damage: the errors.

    Raises:
        BadInput: if the body raises one of `damage`.
    """
    try:
        yield
    except damage as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"missing key {lines[0]}" if isinstance(error, KeyError) else lines[0]
        raise BadInput(f"{path}: expected {what}, got invalid content: {reason:.500}") from None


def parsed(text: str | bytes, depth: int | None = None) -> Any:
    """Parse JSON.

    Args:
        text: the JSON.
        depth: the most lists and objects in each other; None means as many as Python reads.

    Raises:
        ValueError: if the text is not JSON or is nested too deeply.

    >>> parsed('{"a": []}', depth=2)
    {'a': []}
    >>> parsed('{"a": []}', depth=1)
    Traceback (most recent call last):
    ValueError: lists or objects are nested more than 1 times
    """
    # Not by pydantic_core.from_json, which fails on half of a surrogate pair: one bad text would make a table unusable.
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None
    if depth is not None and _is_deep(value, depth):
        raise ValueError(f"lists or objects are nested more than {depth} times")
    return value


def _is_deep(value: Any, most: int) -> bool:
    """Return whether lists and objects of JSON are in each other more than `most` times."""
    level = [value]
    for _ in range(most + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return False
        level = [part for item in containers for part in (item.values() if isinstance(item, dict) else item)]
    return True


def validated(kind: type[T], values: Any, how: Literal["python", "strings", "json"] = "python") -> T:
    """Validate a value by pydantic.

    Args:
        kind: a type that pydantic knows: a model, a dataclass, an `Annotated` type.
        values: the value.
        how: whether it is a Python object, a text as on the command line, or JSON.

    Raises:
        ValueError: for the first invalid value, in one line.

    >>> validated(Annotated[int, Field(ge=1)], "0", "strings")
    Traceback (most recent call last):
    ValueError: expected an integer of at least 1, got '0'
    """
    adapter = TypeAdapter(kind)
    try:
        value: T = getattr(adapter, f"validate_{how}")(values)
    except ValidationError as error:
        raise ValueError(_line(error.errors()[0], adapter.json_schema(by_alias=False))) from None
    return value


def _line(error: Any, schema: Any) -> str:
    """Return one line for an error of pydantic, with what the JSON schema says is expected at its place."""
    kind, value = error["type"], error["input"]
    place, inner = _place(error["loc"], schema)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    prefix = f"{where:.200}: " if where else ""
    if kind == "json_invalid":
        return f"{prefix}expected JSON, got an error: {error['ctx']['error']!s:.500}"
    if kind == "value_error":
        return f"{prefix}{error['ctx']['error']!s:.500}"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        names = list(schema["properties"])
        return f"{prefix}unknown name, expected one of {', '.join(names)}{perhaps(where, names)}"
    expected, got = _spelled(inner), "nothing" if kind == "missing" else f"{value!r:.40}"
    if error.get("ctx", {}).get("le") == MAX_INT:
        expected += f" and at most {MAX_INT}"
    names = [name for alternative in _alternatives(inner) for name in alternative.get("enum", [])]
    separator, hint = ("; got", perhaps(str(value), names)) if names else (", got", "")
    return f"{prefix}expected {expected}{separator} {got}{hint}"


def _place(location: Sequence[str | int], schema: Any) -> tuple[list[str | int], Any]:
    """Return the place of an error without the names that pydantic gives to alternatives, and the JSON schema there."""
    classes, place = schema.get("$defs", {}), list[str | int]()
    for part in location:
        inner = _inside(schema, part)
        if not inner and isinstance(part, str) and len(_alternatives(schema)) > 1:
            continue
        place.append(part)
        schema = classes.get(inner.get("$ref", "").rpartition("/")[2], inner)
    return place, schema


def _alternatives(schema: Any) -> list[Any]:
    """Return the schemas of which a value must have one, without null, which leaves an option unset."""
    return [alternative for alternative in schema.get("anyOf", [schema]) if alternative.get("type") != "null"]


def _inside(schema: Any, part: str | int) -> Any:
    """Return the JSON schema of a field, of the values of an object, or of the elements of a list."""
    for kind in _alternatives(schema):
        inner = kind.get("items") if isinstance(part, int) else kind.get("properties", {}).get(part)
        if isinstance(inner := inner or kind.get("additionalProperties"), dict):
            return inner
    return {}


def _spelled(schema: Any) -> str:
    """Describe the values of a JSON schema in words, without the bound `MAX_INT`."""
    if "anyOf" in schema:
        return " or ".join(map(_spelled, _alternatives(schema)))
    if "enum" in schema:
        return " or ".join(schema["enum"]) if len(schema["enum"]) == 2 else f"one of {', '.join(schema['enum'])}"
    name = _NAMES.get(schema.get("format", schema.get("type")), "another value")
    least, above, most = (schema.get(bound) for bound in ("minimum", "exclusiveMinimum", "maximum"))
    if above is not None:
        return f"{name} greater than {above}" + ("" if most is None else f" and at most {most}")
    if least is not None:
        return f"{name} of at least {least}" if most in (None, MAX_INT) else f"{name} from {least} to {most}"
    return f"{name} of at most {schema['maxLength']:,} characters" if "maxLength" in schema else name
