"""What was said of a recording."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class TranscribePrediction(NamedTuple):
    """A text that was written down.

    text: as it is for people.
    confidence: p(text | recording) ** (1 / characters), of the network's alone; 0 where nothing is known of it.
    log_p: (T, K), of every symbol at each step.
    steps: (T, D), what was heard.
    """

    text: str
    confidence: float = 0.0
    log_p: NDArray[np.float32] | None = None
    steps: NDArray[np.float32] | None = None
