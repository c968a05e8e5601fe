"""Options of a backtest. Imports nothing heavy."""

from typing import Annotated, Any

import typer
from pydantic import AfterValidator, BeforeValidator, Field

from elman.options import Options, Whole

STATISTICAL = ("AutoETS", "Theta", "MSTL", "SeasonalNaive")  # of the package statsforecast
ALL = "all"


def _joined(value: Any) -> Any:
    """Join a list of names, which Python may have in place of the text of the command line."""
    return (
        ",".join(value) if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value) else value
    )


def _checked(text: str | None) -> str | None:
    if text is not None:
        statistical(text)
    return text


def statistical(text: str | None) -> list[str]:
    """Return the names of models in the text of the option.

    Raises:
        ValueError: for an unknown name.

    >>> statistical("theta, MSTL"), statistical(None)
    (['Theta', 'MSTL'], [])
    """
    if text is None:
        return []
    by_name = {name.lower(): name for name in STATISTICAL}
    names = [part.strip() for part in text.split(",")]
    if names == [ALL]:
        return list(STATISTICAL)
    for name in names:
        if name.lower() not in by_name:
            raise ValueError(f"expected some of {', '.join(STATISTICAL)}, or {ALL}; got {name!r:.60}")
    return list(dict.fromkeys(by_name[name.lower()] for name in names))


class BacktestOptions(Options):
    """Options of a backtest. `windows` is `n_windows` of Nixtla, `stride` that of Darts."""

    windows: Annotated[
        Whole | None,
        Field(ge=1, description="Number of cutoffs, counted from the end of the data."),
        typer.Option(show_default="all in the last 20 % of the time; with --refit, 3"),
    ] = None
    stride: Annotated[
        Whole | None,
        Field(ge=1, description="Steps from one cutoff to the next."),
        typer.Option(show_default="the horizon"),
    ] = None
    horizon: Annotated[
        Whole | None,
        Field(ge=1, description="Number of steps to forecast, at most that of the training."),
        typer.Option(show_default="that of the training"),
    ] = None
    refit: Annotated[
        bool,
        Field(description="Retrain at every cutoff, on the data before it, with the options of the run."),
        typer.Option("--refit"),
    ] = False
    baselines: Annotated[
        str | None,
        BeforeValidator(_joined, json_schema_input_type=str | list[str] | None),
        AfterValidator(_checked),
        Field(
            description=f"Statistical models of the package statsforecast, fitted at every cutoff: "
            f"{', '.join(STATISTICAL)}, or {ALL}."
        ),
        typer.Option(metavar="NAMES", show_default="none"),
    ] = None
