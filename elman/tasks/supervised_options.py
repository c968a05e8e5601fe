"""What every task of examples can be asked. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from elman import options as shared


def _part(use: str) -> Any:
    said = f"Files of their own to {use}, in the place of a share of DATA."
    return typer.Option(help=said, metavar="FILE", show_default=False)


Validation = Annotated[list[str] | None, _part("validate on")]
Test = Annotated[list[str] | None, _part("be scored on")]


@dataclass(frozen=True)
class SupervisedOptions:
    """The options by their names on the command line."""

    cell: shared.Cell = "gru"
    hidden: shared.Hidden = 128
    layers: shared.Layers = 1
    dropout: shared.Dropout = 0.2
    bptt: shared.Bptt = 0
    batch: shared.Batch = 32
    validation: Validation = None
    test: Test = None
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be used, and count it.")] = False
