"""A text as the streams of truncated BPTT: each token, and the one that follows it."""

import numpy as np
from numpy.typing import NDArray

from elman.bptt import Stream, stream

IGNORED = -100  # the target that no loss counts, as torch.nn.functional.cross_entropy has it


def streams(ids: NDArray[np.integer], batch: int, bptt: int, every_token: bool = False) -> Stream:
    """Token ids as chunks of inputs and targets, (T, B) each.

    Args:
        ids: (N).
        batch: B, how many streams the text is cut into.
        bptt: T, how many steps to a chunk.
        every_token: keep all N - 1 targets; without it, the streams end with the last whole chunk.

    >>> inputs, targets = streams(np.arange(9), batch=2, bptt=2)[1].values
    >>> inputs.T.tolist(), targets.T.tolist()
    ([[2, 3], [6, 7]], [[3, 4], [7, 8]])
    """
    return stream((ids[:-1], ids[1:]), batch, bptt, drop_last=not every_token, padding=(0, IGNORED))
