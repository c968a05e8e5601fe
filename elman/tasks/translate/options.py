"""The options of `elman train translate`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.data.token_kinds import KINDS
from elman.options import choice, whole
from elman.tasks.text_output_options import TextOutputOptions
from elman.training.options import TrainingOptions

HELP = """Train a translator of sentences.

DATA is a file with a sentence, a tab and its translation in each line; or two files whose lines belong together, with
--validation and --test given twice too.
"""
PATIENCE = 3
TRAINING: dict[str, Any] = {"lr": 2e-3}
DATA = Annotated[
    list[Path],
    typer.Argument(help="Pairs of sentences, in a file or in two.", metavar="DATA", show_default=False),
]
VOCABULARY = 4_000  # an epoch takes 1.4 times as long with 8,000


@dataclass(frozen=True, kw_only=True)
class TranslateOptions(TextOutputOptions):
    """The options of the task."""

    hidden: shared.Hidden = 256
    tokens: Annotated[str, choice("Tokens of both languages", KINDS)] = "bpe"
    vocabulary: Annotated[int, whole("Vocabulary size; 0: that of `elman train text`.", 0)] = VOCABULARY
    embed: Annotated[int, whole("Size of the token embeddings.", 1)] = 256


@dataclass(frozen=True, kw_only=True)
class TranslateFitOptions(TrainingOptions, TranslateOptions):
    """The options of `fit`; `validation` and `test` may be any data that `fit` takes."""

    validation: Any = None
    test: Any = None


OPTIONS = TranslateOptions
