"""What `elman train text` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.data.token_kinds import KINDS
from elman.options import choice, whole

HELP = """Train a language model on a text: 90 % to learn from, the last 10 % to validate and score on.
"""
PATIENCE = 3
TRAINING: dict[str, Any] = {}
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="A text; without it, Python's own reference manual.", metavar="FILE", show_default=False),
]


@dataclass(frozen=True)
class TextOptions:
    """The options by their names on the command line."""

    tokens: Annotated[str, choice("What the text is made of", KINDS)] = "char"
    vocabulary: Annotated[
        int, whole("How many words or byte pairs to know.", 0, show_default="10,000 words, 1,000 byte pairs")
    ] = 0
    cell: shared.Cell = "lstm"
    hidden: shared.Hidden = 384
    layers: shared.Layers = 1
    embed: Annotated[int, whole("Width of the embedding; 0: 64 for characters, else as --hidden.", 0)] = 0
    dropout: shared.Dropout = 0.2
    bptt: Annotated[int, whole("Steps that the gradient goes back: truncated BPTT.", 1)] = 64
    batch: shared.Batch = 16
    encoding: shared.Encoding = "utf-8"

    def shape(self, vocabulary: int) -> dict[str, Any]:
        """The arguments of the model, for a vocabulary of this size."""
        return {
            "vocabulary": vocabulary,
            "cell": self.cell,
            "embed": self.embed or (64 if self.tokens == "char" else self.hidden),
            "hidden": self.hidden,
            "layers": self.layers,
            "dropout": self.dropout,
        }


OPTIONS = TextOptions
