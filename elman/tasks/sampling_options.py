"""Options of sampling. Imports nothing heavy."""

from typing import Annotated

import typer
from pydantic import Field

from elman.options import Options, Real, Whole


class SamplingOptions(Options):
    """Options of sampling."""

    temperature: Annotated[Real, Field(ge=0, description="Sampling temperature; 0: always the most probable.")] = 0.8
    top_k: Annotated[Whole, Field(ge=0, description="Sample from this many of the most probable; 0: all.")] = 0
    top_p: Annotated[
        Real,
        Field(gt=0, le=1, description="Nucleus sampling: sample from the most probable with this total probability."),
    ] = 1.0
    seed: Annotated[Whole | None, Field(ge=0, description="Random seed."), typer.Option(show_default="random")] = None


class PathOptions(Options):
    """Options of sampled paths."""

    samples: Annotated[
        Whole | None,
        Field(ge=1, description="For forecast: number of sampled paths, in place of quantiles."),
        typer.Option(show_default=False),
    ] = None
    seed: Annotated[
        Whole | None, Field(ge=0, description="Random seed of --samples."), typer.Option(show_default="random")
    ] = None
