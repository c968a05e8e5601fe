"""Options of the command line that several commands share, and how a wrong value is told."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

from elman.cells import REGISTRY
from elman.io.json_fields import check

Made = TypeVar("Made")
LARGEST = 2**31 - 1  # of whole numbers
LISTED = "A,B"  # stands in the help for names with commas between them
PARTS = ("validation", "test")  # options that name files, and in Python are data of any kind


def whole(help: str, least: int, most: int | None = None, **more: Any) -> Any:
    """An option that takes a whole number, of no more than 31 bits."""
    expected = f"a whole number {_bounds(least, math.inf if most is None else most)}"
    highest = LARGEST if most is None else most
    return _number(help, int, expected, lambda value: least <= value <= highest, metavar="N", **more)


def real(help: str, least: float, most: float = math.inf, **more: Any) -> Any:
    """An option that takes a finite number."""
    return _number(help, float, f"a number {_bounds(least, most)}", lambda value: least <= value <= most, **more)


def _bounds(least: float, most: float) -> str:
    return f"from {least} up" if most == math.inf else f"from {least} to {most}"


def positive(help: str, most: float = math.inf, **more: Any) -> Any:
    """An option that takes a finite number above zero."""
    bounds = "above 0" if most == math.inf else f"above 0, and {most} at most"
    return _number(help, float, f"a number {bounds}", lambda value: 0 < value <= most, **more)


def choice(help: str, names: "tuple[str, ...] | dict[str, Any]", *flags: str, **more: Any) -> Any:
    """An option that takes one of a few names; `flags`, where it is called other than its field."""

    def parse(text: str) -> str:
        name = meant(text, names)
        if name is None:
            raise typer.BadParameter(f"expected one of {', '.join(names)}; got {text!r}{perhaps(text, names)}")
        return name

    return typer.Option(
        *flags,
        help=f"{help}: {', '.join(names)}.",
        parser=parse,
        metavar="NAME",
        autocompletion=lambda incomplete: [name for name in names if name.startswith(incomplete)],
        **more,
    )


def meant(text: str, names: Iterable[str]) -> str | None:
    """Which of these names a text is, in capitals or not, in one word or several.

    >>> meant("PeepholeLSTM", ["lstm", "peephole_lstm"]), meant("ltsm", ["lstm"])
    ('peephole_lstm', None)
    """
    return {_plain(name): name for name in names}.get(_plain(text))


def perhaps(text: str, names: Iterable[str]) -> str:
    """What to add to a complaint about a text that is none of these names, but looks like one.

    >>> perhaps("Ltsm", ["gru", "lstm"]), perhaps("tree", ["gru", "lstm"])
    ('; did you mean lstm?', '')
    """
    known = {_plain(name): name for name in names}
    near = get_close_matches(_plain(text), known, 1)
    return f"; did you mean {known[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


def _number(
    help: str,
    kind: type[int] | type[float],
    expected: str,
    fits: Callable[[float], bool],
    metavar: str = "X",
    **more: Any,
) -> Any:
    def parse(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = math.nan
        if kind is int and abs(value) > LARGEST:
            raise typer.BadParameter(f"expected {expected}, of 31 bits; got {text!r:.40}")
        if not (math.isfinite(value) and fits(value)):
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
RunFolder = Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN", show_default=False)]


def declared(kind: type) -> list[inspect.Parameter]:
    """The fields of a dataclass of options, as the parameters of a command."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
    ]


def under(title: str, parameter: inspect.Parameter, **changes: Any) -> inspect.Parameter:
    """An option of a command, in a box of the help.

    Args:
        title: of the box.
        parameter: the option.
        changes: attributes of its typer.Option that are to be others.
    """
    kind, option = get_args(parameter.annotation)
    option = copy(option)
    for name, value in (changes | {"rich_help_panel": title}).items():
        setattr(option, name, value)
    return parameter.replace(annotation=Annotated[kind, option])


def taking(parameters: Iterable[inspect.Parameter]) -> Callable[[Made], Made]:
    """Of a command with `**options`: it has these parameters in their place."""

    def made(command: Made) -> Made:
        signature = inspect.signature(command)  # type: ignore[arg-type]
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        command.__signature__ = signature.replace(parameters=[*own, *parameters])  # type: ignore[attr-defined]
        return command

    return made


def checked(kind: type[Made], name: str, given: dict[str, Any], others: Iterable[str] = ()) -> Made:
    """A dataclass of options, made in Python of values that are checked as those of the command line are.

    Args:
        kind: the dataclass.
        name: of what takes the options, for complaints.
        given: the values.
        others: options that there are besides, for complaints.

    Raises:
        TypeError: for an option that there is not.
        ValueError: for a value that it cannot have.
    """
    known = {parameter.name: parameter for parameter in declared(kind)}
    for option, value in given.items():
        if option not in known:
            names = [*known, *others]
            raise TypeError(f"{name}: {option}: expected one of {', '.join(names)}{perhaps(option, names)}")
        if option not in PARTS and value is not known[option].default:
            try:
                given = given | {option: _read(option, value, known[option].annotation)}
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return kind(**given)


def made(kind: type[Made], held: Mapping[str, Any]) -> Made:
    """A dataclass of options of what a file has held.

    Raises:
        ValueError: for an option that there is not, and for a value that it cannot have.
    """
    known = {parameter.name: parameter for parameter in declared(kind)}
    for option, value in held.items():
        if option not in known:
            raise ValueError(f"{option}: expected one of {', '.join(known)}")
        check(option, value, known[option].annotation)
        found = _read(option, value, known[option].annotation)
        if found != value:
            raise ValueError(f"{option}: expected {found!r}, got {value!r}")
    return kind(**held)


def _read(name: str, value: Any, annotation: Any) -> Any:
    """A value of an option, as the command line would have it.

    Raises:
        ValueError: if the option cannot have it.
    """
    option = annotation.__metadata__[0]
    if option.metavar == LISTED and isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    parse = getattr(option, "parser", None)
    if parse is None or value is None:
        check(name, value, annotation)
        return value
    try:
        found = parse(str(value))
    except typer.BadParameter as error:
        raise ValueError(f"{name}: {error.message}") from None
    check(name, found, annotation)
    return found
