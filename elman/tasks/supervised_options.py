"""Options of every supervised task. Imports nothing heavy."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BeforeValidator, Field

from elman import options as shared

if TYPE_CHECKING:
    Files = Any  # in Python, any data that `fit` takes
else:
    Files = Annotated[
        list[str] | None,
        BeforeValidator(shared.listed, json_schema_input_type=str | list[str] | None),
        typer.Option(metavar="FILE", show_default=False),
    ]


class SupervisedOptions(shared.Options):
    """Options of every supervised task."""

    cell: shared.Cell = "gru"
    hidden: shared.Hidden = 128
    layers: shared.Layers = 1
    dropout: shared.Dropout = 0.2
    bptt: shared.Bptt = 0
    batch: shared.Batch = 32
    validation: Annotated[Files, Field(description="Files to validate on, instead of a share of DATA.")] = None
    test: Annotated[Files, Field(description="Files to test on, instead of a share of DATA.")] = None
    skip_bad: Annotated[
        bool, Field(description="Skip unusable inputs, and count them."), typer.Option("--skip-bad")
    ] = False
