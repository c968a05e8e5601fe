"""What every task of examples can be asked. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

import typer

from elman import options as shared

Part = Annotated[
    list[str] | None,
    typer.Option(
        help="Files of their own for this part, in the place of a share of DATA.", metavar="FILE", show_default=False
    ),
]


@dataclass(frozen=True)
class ExampleOptions:
    """The options by their names on the command line."""

    cell: shared.Cell = "gru"
    hidden: shared.Hidden = 128
    layers: shared.Layers = 1
    dropout: shared.Dropout = 0.2
    bptt: shared.Bptt = 0
    batch: shared.Batch = 32
    validation: Part = None
    test: Part = None
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be used, and count it.")] = False
