"""Options of every task that writes texts. Imports nothing heavy."""

from typing import Annotated

from pydantic import Field

from elman import options as shared
from elman.data.token_kinds import Kind
from elman.io.schema import BeamWidth
from elman.options import Whole
from elman.tasks.supervised_options import SupervisedOptions


class TextOutputOptions(SupervisedOptions):
    """Options of every task that writes texts."""

    dropout: shared.Dropout = 0.3
    tokens: Annotated[Kind, Field(description="Tokens of the output")] = "char"
    vocabulary: Annotated[Whole, Field(ge=0, description="Vocabulary size; 0: that of `elman train text`.")] = 0
    embed: Annotated[Whole, Field(ge=1, description="Size of the token embeddings.")] = 64
    smoothing: shared.Smoothing = 0.1
    beam: Annotated[BeamWidth, Field(description="Beam width; 1: greedy.")] = 4
    encoding: shared.Encoding = "utf-8"
