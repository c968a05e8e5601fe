"""Command-line options shared by several commands, and validation of option values."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from elman.cells import REGISTRY
from elman.io.json_fields import check

T = TypeVar("T")
MAX_INT = 2**31 - 1  # largest value of an integer option
LIST_METAVAR = "A,B"  # metavar of options that take comma-separated names
PARTS = ("validation", "test")  # options that take file names; in Python, data of any kind


def whole(help: str, least: int, most: int | None = None, **more: Any) -> Any:
    """Declare an option that takes a whole number of at most 31 bits.

    Args:
        help: help text of the option.
        least: smallest valid value.
        most: largest valid value; None means `MAX_INT`.
        more: further arguments of `typer.Option`.
    """
    expected = f"a whole number {_bounds(least, math.inf if most is None else most)}"
    highest = MAX_INT if most is None else most
    option = _number(help, int, expected, lambda value: least <= value <= highest, metavar="N", **more)
    return _with_schema(option, minimum=least, maximum=highest)


def real(help: str, least: float, most: float = math.inf, **more: Any) -> Any:
    """Declare an option that takes a finite number.

    Args:
        help: help text of the option.
        least: smallest valid value.
        most: largest valid value.
        more: further arguments of `typer.Option`.
    """
    option = _number(help, float, f"a number {_bounds(least, most)}", lambda value: least <= value <= most, **more)
    return _with_schema(option, minimum=least, maximum=most)


def _bounds(least: float, most: float) -> str:
    return f"from {least} up" if most == math.inf else f"from {least} to {most}"


def positive(help: str, most: float = math.inf, **more: Any) -> Any:
    """Declare an option that takes a finite number above zero.

    Args:
        help: help text of the option.
        most: largest valid value.
        more: further arguments of `typer.Option`.
    """
    bounds = "above 0" if most == math.inf else f"above 0, and {most} at most"
    option = _number(help, float, f"a number {bounds}", lambda value: 0 < value <= most, **more)
    return _with_schema(option, exclusiveMinimum=0, maximum=most)


def choice(help: str, names: "tuple[str, ...] | dict[str, Any]", *flags: str, **more: Any) -> Any:
    """Declare an option that takes one of a few names.

    Args:
        help: help text of the option; the names are appended to it.
        names: valid names.
        flags: flags of the option, if they differ from its field name.
        more: further arguments of `typer.Option`.
    """

    def parse(text: str) -> str:
        name = meant(text, names)
        if name is None:
            raise typer.BadParameter(f"expected one of {', '.join(names)}; got {text!r}{perhaps(text, names)}")
        return name

    option = typer.Option(
        *flags,
        help=f"{help}: {', '.join(names)}.",
        parser=parse,
        metavar="NAME",
        autocompletion=lambda incomplete: [name for name in names if name.startswith(incomplete)],
        **more,
    )
    return _with_schema(option, enum=list(names))


def meant(text: str, names: Iterable[str]) -> str | None:
    """Return the name that matches a text, or None. Case, underscores and hyphens are ignored.

    >>> meant("PeepholeLSTM", ["lstm", "peephole_lstm"]), meant("ltsm", ["lstm"])
    ('peephole_lstm', None)
    """
    return {_plain(name): name for name in names}.get(_plain(text))


def perhaps(text: str, names: Iterable[str]) -> str:
    """Return a suggestion to append to an error message if a text resembles one of the names, otherwise "".

    >>> perhaps("Ltsm", ["gru", "lstm"]), perhaps("tree", ["gru", "lstm"])
    ('; did you mean lstm?', '')
    """
    known = {_plain(name): name for name in names}
    near = get_close_matches(_plain(text), known, 1)
    return f"; did you mean {known[near[0]]}?" if near else ""


def _with_schema(option: Any, **schema: Any) -> Any:
    """Add the bounds of an option for `json_schema`."""
    option.json_schema = {name: value for name, value in schema.items() if value != math.inf}
    return option


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


def _number(
    help: str,
    kind: type[int] | type[float],
    expected: str,
    is_valid: Callable[[float], bool],
    metavar: str = "X",
    **more: Any,
) -> Any:
    def parse(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = math.nan
        if kind is int and abs(value) > MAX_INT:
            raise typer.BadParameter(f"expected {expected}, of 31 bits; got {text!r:.40}")
        if not (math.isfinite(value) and is_valid(value)):
            raise typer.BadParameter(f"expected {expected}; got {text!r}")
        return value

    return typer.Option(help=help, parser=parse, metavar=metavar, **more)


Cell = Annotated[str, choice("The recurrent cell", REGISTRY)]
Hidden = Annotated[int, whole("Size of the hidden state of each layer.", 1)]
Layers = Annotated[int, whole("Number of recurrent layers.", 1)]
Dropout = Annotated[float, real("Dropout between recurrent layers.", 0, 1)]
Bptt = Annotated[int, whole("Truncated BPTT: steps of the backward pass; 0: all.", 0)]
Batch = Annotated[int, whole("Batch size.", 1)]
Quote = Annotated[
    str,
    typer.Option(
        help="Quote character of CSV and TSV; none: quotes are literal.",
        metavar="CHARACTER",
        show_default='" in CSV, none in TSV',
    ),
]
Encoding = Annotated[str, typer.Option(help="Encoding of text files: utf-8, cp1252.", metavar="NAME")]
Out = Annotated[Path | None, typer.Option(help="Run folder, new or empty.", metavar="RUN", show_default="runs/TASK-N")]
Resume = Annotated[
    Path | None,
    typer.Option(help="Resume this run, or extend it with --epochs or --minutes.", metavar="RUN", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Config = Annotated[
    Path | None,
    typer.Option(
        help="Options in a YAML, TOML or JSON file, or those of a run; options of the command line override them.",
        metavar="FILE or RUN",
        show_default=False,
    ),
]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the configuration as YAML, and exit.")]
PrintSchema = Annotated[bool, typer.Option("--print-schema", help="Print a JSON schema of --config, and exit.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN", show_default=False)]


def declared(kind: type) -> list[inspect.Parameter]:
    """Return the fields of an options dataclass as command parameters."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
    ]


def under(title: str, parameter: inspect.Parameter, **changes: Any) -> inspect.Parameter:
    """Put an option into a panel of the help.

    Args:
        parameter: the option.
        title: title of the panel.
        changes: attributes of the `typer.Option` to override.

    Returns:
        A changed copy of the option.
    """
    kind, option = get_args(parameter.annotation)
    option = copy(option)
    for name, value in (changes | {"rich_help_panel": title}).items():
        setattr(option, name, value)
    return parameter.replace(annotation=Annotated[kind, option])


def with_parameters(parameters: Iterable[inspect.Parameter]) -> Callable[[T], T]:
    """Replace the `**options` of a command by these parameters in its signature."""

    def decorate(command: T) -> T:
        signature = inspect.signature(command)  # type: ignore[arg-type]
        named = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        command.__signature__ = signature.replace(parameters=[*named, *parameters])  # type: ignore[attr-defined]
        return command

    return decorate


def checked(kind: type[T], name: str, values: dict[str, Any], other_names: Iterable[str] = ()) -> T:
    """Build an options dataclass from Python values, validated as on the command line.

    Args:
        kind: the dataclass.
        name: the function that takes the options, for error messages.
        values: option values by name.
        other_names: further valid option names, for error messages.

    Raises:
        TypeError: if an option does not exist.
        ValueError: if a value is invalid.
    """
    parameters = {parameter.name: parameter for parameter in declared(kind)}
    for option, value in values.items():
        if option not in parameters:
            names = [*parameters, *other_names]
            raise TypeError(f"{name}: {option}: expected one of {', '.join(names)}{perhaps(option, names)}")
        if option not in PARTS and value is not parameters[option].default:
            try:
                values = values | {option: _read(option, value, parameters[option].annotation)}
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return kind(**values)


def restore_options(kind: type[T], stored: Mapping[str, Any]) -> T:
    """Build an options dataclass from the values stored in a file.

    Raises:
        ValueError: if an option does not exist or a value is invalid.
    """
    parameters = {parameter.name: parameter for parameter in declared(kind)}
    for option, value in stored.items():
        if option not in parameters:
            raise ValueError(f"{option}: expected one of {', '.join(parameters)}")
        check(option, value, parameters[option].annotation)
        parsed = _read(option, value, parameters[option].annotation)
        if parsed != value:
            raise ValueError(f"{option}: expected {parsed!r}, got {value!r}")
    return kind(**stored)


def _read(name: str, value: Any, annotation: Any) -> Any:
    """Parse the value of an option as the command line does.

    Raises:
        ValueError: if the value is invalid.
    """
    option = annotation.__metadata__[0]
    if option.metavar == LIST_METAVAR and isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    parse = getattr(option, "parser", None)
    if parse is None or value is None:
        check(name, value, annotation)
        return value
    try:
        parsed = parse(str(value))
    except typer.BadParameter as error:
        raise ValueError(f"{name}: {error.message}") from None
    check(name, parsed, annotation)
    return parsed


_JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", Path: "string", NoneType: "null"}


def json_schema(kind: type) -> dict[str, Any]:
    """Return the JSON schemas of the fields of an options dataclass, by name.

    >>> from elman.training.options import TrainingOptions
    >>> json_schema(TrainingOptions)["clip"]
    {'description': 'Gradient clipping: largest norm; 0: none.', 'default': 1.0, 'type': ['number'], 'minimum': 0}
    """
    return {parameter.name: _field_schema(parameter) for parameter in declared(kind)}


def _field_schema(parameter: inspect.Parameter) -> dict[str, Any]:
    kind, option = get_args(parameter.annotation)
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    schema = {"description": option.help, "default": parameter.default}
    if any(get_origin(one) is list for one in kinds):  # files of a part
        return schema | {"type": ["string", "array", "null"], "items": {"type": "string"}}
    bounds = getattr(option, "json_schema", {})
    if "enum" in bounds and parameter.default is None:
        bounds = {"enum": [*bounds["enum"], None]}
    return schema | {"type": [_JSON_TYPES[one] for one in kinds]} | bounds
