"""Options as pydantic fields, from which commands, `fit`, configuration files and their JSON schema are derived."""

import inspect
import os
from collections.abc import Callable, Iterable
from copy import copy
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from typer.models import OptionInfo

from elman.cells import REGISTRY
from elman.io.names import meant, perhaps
from elman.io.schema import MAX_INT, STRICT, validated

O = TypeVar("O", bound="Options")  # noqa: E741
T = TypeVar("T")
PARTS = ("validation", "test")  # options that take file names; in Python, data of any kind
Whole = Annotated[int, Field(le=MAX_INT)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[Real, Field(ge=0, le=1)]
if TYPE_CHECKING:  # the names are those of files
    CellName = str
else:
    CellName = Literal[REGISTRY]


class Options(BaseModel):
    """Base class of options. Values are checked when options are made, by keyword."""

    model_config = ConfigDict(**STRICT, validate_by_name=True, loc_by_alias=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _normalize(cls, value: Any, info: ValidationInfo) -> Any:
        """Convert numbers of NumPy and PyTorch to Python's, and names in any case to those of a `Literal`."""
        if isinstance(value, str):
            return meant(value, names_of(cls.model_fields[str(info.field_name)].annotation)) or value
        return value.item() if getattr(value, "ndim", None) == 0 else value


def without_none(kind: Any) -> Any:
    """Return a type without `| None`."""
    alternatives = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return next(alternative for alternative in alternatives if alternative is not NoneType)


def names_of(kind: Any) -> tuple[str, ...]:
    """Return the names of a `Literal`; none for any other type."""
    return get_args(without_none(kind)) if get_origin(without_none(kind)) is Literal else ()


Cell = Annotated[CellName, Field(description="The recurrent cell")]
Hidden = Annotated[Whole, Field(ge=1, description="Size of the hidden state of each layer.")]
Layers = Annotated[int, Field(ge=1, le=1000, description="Number of recurrent layers.")]
Dropout = Annotated[Share, Field(description="Dropout between recurrent layers.")]
Smoothing = Annotated[Share, Field(description="Label smoothing.")]
Bptt = Annotated[Whole, Field(ge=0, description="Truncated BPTT: steps of the backward pass; 0: all.")]
Batch = Annotated[Whole, Field(ge=1, description="Batch size.")]
Accelerator = Annotated[
    Literal["auto", "cpu", "gpu", "mps"],
    Field(description="Device: auto, cpu, gpu, mps. auto takes a GPU of CUDA or ROCm if there is one, else the CPU."),
]
Stream = Annotated[
    bool,
    Field(description="Read rows from Parquet or Arrow files, or folders of them, while training: data of any size."),
    typer.Option("--stream"),
]
ShuffleRows = Annotated[
    Whole, Field(ge=1, description="With --stream: rows that are in memory, and shuffled, at a time.")
]
if TYPE_CHECKING:  # a path, too
    Vectors = str | os.PathLike[str] | None
else:
    Vectors = Annotated[
        str | None,
        BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value),
        Field(description="Pretrained word vectors: a file of word2vec (text or binary) or GloVe, also .gz."),
        typer.Option(metavar="FILE", show_default=False),
    ]


def default_embed(size: int) -> Callable[[Any, Any], Any]:
    """Return a function for `model_validator` that sets `embed` where neither it nor `vectors` is set."""

    def fill(cls: Any, values: Any) -> Any:
        is_unset = isinstance(values, dict) and values.get("embed") is None and not values.get("vectors")
        return {**values, "embed": size} if is_unset else values

    return fill


ClassWeight = Annotated[
    Literal["balanced"] | None,
    Field(description="Weight of each label in the loss of training: balanced makes up for its frequency"),
    typer.Option(show_default="all alike"),
]
Quote = Annotated[
    str,
    Field(description="Quote character of CSV and TSV; none: quotes are literal."),
    typer.Option(metavar="CHARACTER", show_default='" in CSV, none in TSV'),
]
Encoding = Annotated[str, Field(description="Encoding of text files: utf-8, cp1252."), typer.Option(metavar="NAME")]
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


def flag(name: str) -> str:
    """Return an option as on the command line.

    >>> flag("skip_bad"), flag("as_")
    ('--skip-bad', '--as')
    """
    return f"--{name.strip('_').replace('_', '-')}"


def listed(value: Any) -> Any:
    """Return a text as a list of one text, for options that take one or several."""
    return [value] if isinstance(value, str) else value


def value_of(field: FieldInfo, text: str) -> Any:
    """Convert a text to a value of an option, as on the command line.

    Args:
        field: a field of options, a number or a name.
        text: the text.

    Raises:
        ValueError: if it is not a value of the option.
    """
    annotation: Any = Annotated[(field.annotation, *field.metadata, Field())]
    return validated(annotation, meant(text, names_of(field.annotation)) or text, "strings")


@cache
def declared(kind: type[Options]) -> tuple[inspect.Parameter, ...]:
    """Return the fields of options as command parameters."""
    hints = get_type_hints(kind)
    return tuple(_parameter(name, hints[name], field) for name, field in kind.model_fields.items())


def _parameter(name: str, kind: Any, field: FieldInfo) -> inspect.Parameter:
    """Return a field as a command parameter, whose values are read by pydantic.

    Args:
        name: the name of the parameter.
        kind: the type of the field without annotations.
        field: the field; its metadata may have a `typer.Option` with what only the help shows.
    """
    option = copy(next((part for part in field.metadata if isinstance(part, OptionInfo)), typer.Option()))
    base, names = without_none(kind), names_of(kind)
    option.help = field.description
    if names and not str(option.help).endswith("."):
        option.help = f"{option.help}: {', '.join(names)}."
    if field.alias:
        option.param_decls = (f"--{field.alias}",)
    is_checked = any(isinstance(part, AfterValidator) for part in field.metadata)
    if names or base in (int, float) or (base is str and is_checked):
        option.metavar = option.metavar or ("NAME" if names else "N" if base is int else "X")
        option.autocompletion = lambda incomplete: [name for name in names if name.startswith(incomplete)]

        def parse(value: Any) -> Any:  # a text, or the default
            try:
                return value_of(field, str(value))
            except ValueError as error:
                raise typer.BadParameter(str(error)) from None

        option.parser = parse
    default = inspect.Parameter.empty if field.is_required() else field.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def under(title: str, parameter: inspect.Parameter, **changes: Any) -> inspect.Parameter:
    """Put an option into a panel of the help.

    Args:
        title: title of the panel.
        parameter: the option.
        changes: attributes of the `typer.Option` to override.

    Returns:
        A changed copy of the option.
    """
    kind, option = get_args(parameter.annotation)
    option = copy(option)
    for name, value in (changes | {"rich_help_panel": title}).items():
        setattr(option, name, value)
    return parameter.replace(annotation=Annotated[kind, option])


def with_parameters(parameters: Iterable[inspect.Parameter] = ()) -> Callable[[T], T]:
    """Turn pydantic fields in the signature of a command into options, and its `**options` into these parameters."""

    def decorate(command: T) -> T:
        signature = inspect.signature(command)  # type: ignore[arg-type]
        types, annotations = get_type_hints(command), get_type_hints(command, include_extras=True)
        named = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        for i, parameter in enumerate(named):
            field = FieldInfo.from_annotation(annotations[parameter.name])
            if field.description:
                option = _parameter(parameter.name, types[parameter.name], field)
                named[i] = parameter.replace(annotation=option.annotation)
        command.__signature__ = signature.replace(parameters=[*named, *parameters])  # type: ignore[attr-defined]
        return command

    return decorate


def checked(kind: type[O], name: str, values: dict[str, Any], other_names: Iterable[str] = ()) -> O:
    """Build options from Python values.

    Args:
        kind: the class of options.
        name: the function that takes the options, for error messages.
        values: option values by name; those of `PARTS` may be data of any kind.
        other_names: further valid option names, for error messages.

    Raises:
        TypeError: if an option does not exist.
        ValueError: if a value is invalid.
    """
    names = [*kind.model_fields, *other_names]
    for option in values:
        if option not in kind.model_fields:
            raise TypeError(f"{name}: {option}: expected one of {', '.join(names)}{perhaps(option, names)}")
    try:
        options = validated(kind, {option: value for option, value in values.items() if option not in PARTS})
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return options.model_copy(update={option: values[option] for option in PARTS if option in values})
