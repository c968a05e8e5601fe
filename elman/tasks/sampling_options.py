"""What can be asked of a model that writes: how the next is drawn. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

from elman.options import positive, real, whole


@dataclass(frozen=True)
class SamplingOptions:
    """The options by their names on the command line."""

    temperature: Annotated[float, real("Below 1 bolder choices become rarer; 0 always takes the likeliest.", 0)] = 0.8
    top_k: Annotated[int, whole("Choose among this many likeliest; 0: all.", 0)] = 0
    top_p: Annotated[float, positive("Choose among the likeliest up to this probability.", 1)] = 1.0
    seed: Annotated[int | None, whole("The same seed writes the same.", 0, show_default="another each time")] = None
