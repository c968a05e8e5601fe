"""The options of `elman train translate`. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from elman import options as shared
from elman.data.token_kinds import Kind
from elman.options import Whole
from elman.tasks.text_output_options import TextOutputOptions
from elman.training.options import TrainingOptions

HELP = """Train a translator of sentences.

DATA is a file with a sentence, a tab and its translation in each line; or two files with corresponding lines. Then pass
--validation and --test twice too. With --stream, DATA are Parquet or Arrow files, or folders of them.
"""
PATIENCE = 3
TRAINING: dict[str, Any] = {"lr": 2e-3}
SPACE = {
    "lr": "5e-4..5e-3:log", "hidden": "128,256,384", "embed": "128,256", "dropout": "0.1..0.5", "smoothing": "0..0.2",
    "batch": "16,32,64",
}  # fmt: skip
INCOMPARABLE = ("tokens", "vocabulary")
DATA = Annotated[
    list[Path],
    typer.Argument(help="Pairs of sentences, in a file or in two.", metavar="DATA", show_default=False),
]
VOCABULARY = 4_000  # an epoch takes 1.4 times as long with 8,000


class TranslateOptions(TextOutputOptions):
    """The options of the task."""

    stream: shared.Stream = False
    shuffle_rows: shared.ShuffleRows = 10_000
    source_column: Annotated[
        str, Field(description="With --stream: column of the sentences."), typer.Option(metavar="COLUMN")
    ] = "source"
    target_column: Annotated[
        str, Field(description="With --stream: column of the translations."), typer.Option(metavar="COLUMN")
    ] = "target"
    hidden: shared.Hidden = 256
    tokens: Annotated[Kind, Field(description="Tokens of both languages")] = "bpe"
    vocabulary: Annotated[Whole, Field(ge=0, description="Vocabulary size; 0: that of `elman train text`.")] = (
        VOCABULARY
    )
    embed: Annotated[Whole, Field(ge=1, description="Size of the token embeddings.")] = 256


class TranslateFitOptions(TrainingOptions, TranslateOptions):
    """The options of `fit`."""


OPTIONS = TranslateOptions
