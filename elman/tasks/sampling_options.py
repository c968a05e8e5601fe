"""Options of sampling. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

from elman.options import positive, real, whole


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Options of sampling."""

    temperature: Annotated[float, real("Sampling temperature; 0: always the likeliest.", 0)] = 0.8
    top_k: Annotated[int, whole("Sample from this many likeliest; 0: all.", 0)] = 0
    top_p: Annotated[float, positive("Nucleus sampling: sample from the likeliest with this total probability.", 1)] = (
        1.0
    )
    seed: Annotated[int | None, whole("Random seed.", 0, show_default="random")] = None
