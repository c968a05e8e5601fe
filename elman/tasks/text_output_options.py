"""What every task that writes can be asked. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

from elman import options as shared
from elman.data.token_kinds import KINDS
from elman.options import choice, real, whole
from elman.tasks.supervised_options import SupervisedOptions


@dataclass(frozen=True)
class TextOutputOptions(SupervisedOptions):
    """The options by their names on the command line."""

    dropout: shared.Dropout = 0.3
    tokens: Annotated[str, choice("What is written, piece by piece", KINDS)] = "char"
    vocabulary: Annotated[int, whole("How many words or byte pairs to know; 0: as `elman train text` does.", 0)] = 0
    embed: Annotated[int, whole("Width of the embedding of a token.", 1)] = 64
    smoothing: Annotated[float, real("Share of a target's probability that goes to all tokens alike.", 0, 1)] = 0.1
    beam: Annotated[int, whole("Beam width: texts that are followed side by side in writing; 1: greedy.", 1)] = 4
    encoding: shared.Encoding = "utf-8"
