"""Options of every supervised task. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from elman import options as shared


def _part(use: str) -> Any:
    text = f"Files to {use}, instead of a share of DATA."
    return typer.Option(help=text, metavar="FILE", show_default=False)


Validation = Annotated[list[str] | None, _part("validate on")]
Test = Annotated[list[str] | None, _part("be scored on")]


@dataclass(frozen=True, kw_only=True)
class SupervisedOptions:
    """Options of every supervised task."""

    cell: shared.Cell = "gru"
    hidden: shared.Hidden = 128
    layers: shared.Layers = 1
    dropout: shared.Dropout = 0.2
    bptt: shared.Bptt = 0
    batch: shared.Batch = 32
    validation: Validation = None
    test: Test = None
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip unusable inputs, and count them.")] = False
