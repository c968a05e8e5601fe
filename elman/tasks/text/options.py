"""The options of `elman train text`. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from elman import options as shared
from elman.data.token_kinds import Kind
from elman.options import Whole
from elman.tasks.supervised_options import Files
from elman.training.options import TrainingOptions

HELP = """Train a language model on a text. The last 10 % are for test, and the 10 % before them for validation.

With --stream, FILE are Parquet or Arrow files, or folders of them, with a text in each row.
"""
PATIENCE = 3
TRAINING: dict[str, Any] = {"weight_decay": 0.1}
SPACE = {
    "lr": "1e-3..2e-2:log", "cell": "lstm,gru", "hidden": "128,256,384,512", "layers": "1,2", "dropout": "0..0.5",
    "batch": "8,16,32", "weight_decay": "1e-2..3e-1:log",
}  # fmt: skip
INCOMPARABLE = ("tokens", "vocabulary")
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="A text; without it, Python's own reference manual.", metavar="FILE", show_default=False),
]


class TextOptions(shared.Options):
    """The options of the task."""

    tokens: Annotated[Kind, Field(description="Tokens")] = "char"
    vocabulary: Annotated[
        Whole, Field(ge=0, description="Vocabulary size."), typer.Option(show_default="10,000 words, 1,000 byte pairs")
    ] = 0
    cell: shared.Cell = "lstm"
    hidden: shared.Hidden = 384
    layers: shared.Layers = 1
    embed: Annotated[Whole, Field(ge=0, description="Size of the embeddings; 0: 64 for characters, else --hidden.")] = 0
    dropout: shared.Dropout = 0.3
    bptt: Annotated[Whole, Field(ge=1, description="Truncated BPTT: the gradient reaches back at most N tokens.")] = 64
    batch: shared.Batch = 16
    ensemble: Annotated[
        bool,
        Field(
            description="Predict the weighted mean of the network and the n-gram, with the weight fitted on validation."
        ),
        typer.Option("--ensemble"),
    ] = False
    validation: Annotated[Files, Field(description="A text to validate on, instead of a share of FILE.")] = None
    test: Annotated[Files, Field(description="A text to test on, instead of the last share of FILE.")] = None
    encoding: shared.Encoding = "utf-8"
    stream: shared.Stream = False
    text_column: Annotated[
        str, Field(description="With --stream: column of the texts."), typer.Option(metavar="COLUMN")
    ] = "text"

    def model_args(self, vocabulary: int) -> dict[str, Any]:
        """Return the arguments of the model, for a vocabulary of this size."""
        return {
            "vocabulary": vocabulary,
            "cell": self.cell,
            "embed": self.embed or (64 if self.tokens == "char" else self.hidden),
            "hidden": self.hidden,
            "layers": self.layers,
            "dropout": self.dropout,
        }


class TextFitOptions(TrainingOptions, TextOptions):
    """The options of `fit`."""


OPTIONS = TextOptions
