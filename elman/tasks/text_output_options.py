"""Options of every task that writes texts. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

from elman import options as shared
from elman.data.token_kinds import KINDS
from elman.options import choice, real, whole
from elman.tasks.supervised_options import SupervisedOptions


@dataclass(frozen=True, kw_only=True)
class TextOutputOptions(SupervisedOptions):
    """Options of every task that writes texts."""

    dropout: shared.Dropout = 0.3
    tokens: Annotated[str, choice("Tokens of the output", KINDS)] = "char"
    vocabulary: Annotated[int, whole("Vocabulary size; 0: that of `elman train text`.", 0)] = 0
    embed: Annotated[int, whole("Size of the token embeddings.", 1)] = 64
    smoothing: Annotated[float, real("Label smoothing.", 0, 1)] = 0.1
    beam: Annotated[int, whole("Beam width; 1: greedy.", 1)] = 4
    encoding: shared.Encoding = "utf-8"
