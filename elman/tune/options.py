"""The options of a search. Imports nothing heavy."""

import re
from typing import Annotated, Any

import typer
from pydantic import BeforeValidator, Field

from elman.options import Options, Real, Whole, listed

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def seconds(value: Any) -> Any:
    """Convert a text such as "90s", "10m", "2h" or "1d" to seconds; a text without a unit is in seconds.

    >>> seconds("90"), seconds("1.5h"), seconds(7)
    (90.0, 5400.0, 7)
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if not match:
        raise ValueError(f"expected a time such as 90s, 10m or 2h, got {value!r:.40}")
    return float(match[1]) * _UNITS[match[2] or "s"]


class TuneOptions(Options):
    """The options of a search."""

    trials: Annotated[
        Whole, Field(ge=1, description="Number of trials, those of earlier calls with the same --out included.")
    ] = 20
    timeout: Annotated[
        Real | None,
        Field(gt=0, description="Stop after this time: 90s, 10m, 2h. The same command goes on."),
        BeforeValidator(seconds),
        typer.Option(metavar="TIME", show_default="none"),
    ] = None
    space: Annotated[
        list[str] | None,
        BeforeValidator(listed),
        Field(
            description="Options to search, instead of those of the task: lr=1e-4..1e-1:log (a range, on a logarithmic "
            "scale), dropout=0..0.5 (a range), hidden=32,64,128 (values). Several are separated by blanks, or by "
            "another --space."
        ),
        typer.Option(metavar="NAME=VALUES"),
    ] = None
    prune: Annotated[
        bool,
        Field(
            description="Stop a trial early if its best validation loss is above the median of finished trials at the "
            "same epoch."
        ),
        typer.Option("--prune/--no-prune"),
    ] = True
    ray: Annotated[
        str | None,
        Field(
            description="Train trials in parallel on a Ray cluster: its address, auto, or local for a cluster of this "
            "machine alone."
        ),
        typer.Option(metavar="ADDRESS", show_default="one trial at a time, on this machine"),
    ] = None
