"""What `elman train translate` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.data.token_kinds import KINDS
from elman.options import choice, whole
from elman.tasks.text_output_options import TextOutputOptions

HELP = """Train a network that translates sentences.

DATA is a file with a sentence, a tab and its translation in each line; or two files whose lines belong together, with
--validation and --test given twice too.
"""
PATIENCE = 3
TRAINING: dict[str, Any] = {"lr": 2e-3}
DATA = Annotated[
    list[Path],
    typer.Argument(help="Pairs of sentences, in a file or in two.", metavar="DATA", show_default=False),
]
VOCABULARY = 4_000  # to have twice as many makes an epoch 1.4 times as long


@dataclass(frozen=True)
class TranslateOptions(TextOutputOptions):
    """The options by their names on the command line."""

    hidden: shared.Hidden = 256
    tokens: Annotated[str, choice("What is read and written, piece by piece", KINDS)] = "bpe"
    vocabulary: Annotated[int, whole("How many words or byte pairs to know; 0: as `elman train text` does.", 0)] = (
        VOCABULARY
    )
    embed: Annotated[int, whole("Width of the embedding of a token.", 1)] = 256


OPTIONS = TranslateOptions
