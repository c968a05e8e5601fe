"""The prediction for a recording."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class TranscribePrediction(NamedTuple):
    """A transcription.

    text: the transcription.
    confidence: p(text | recording) ** (1 / characters) by the network, without the language model; 0 for baselines.
    log_p: (T, K), log-probability of every symbol at each step.
    steps: (T, D), the features of the recording.
    """

    text: str
    confidence: float = 0.0
    log_p: NDArray[np.float32] | None = None
    steps: NDArray[np.float32] | None = None
