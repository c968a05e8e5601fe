"""A text as streams for truncated BPTT: each token with the token that follows it."""

import numpy as np
from numpy.typing import NDArray

from elman.bptt import Stream, stream

IGNORED = -100  # target that losses ignore, as in torch.nn.functional.cross_entropy


def streams(ids: NDArray[np.integer], batch: int, bptt: int, every_token: bool = False) -> Stream:
    """Cut token ids into chunks of inputs and targets, each (T, B).

    Args:
        ids: token ids (N,).
        batch: B, number of streams.
        bptt: T, steps per chunk.
        every_token: keep all N - 1 targets; otherwise the streams end with the last whole chunk.

    Returns:
        The streams of all processes together, if several train; `part` has those of a process.

    >>> inputs, targets = streams(np.arange(9), batch=2, bptt=2)[1].values
    >>> inputs.T.tolist(), targets.T.tolist()
    ([[2, 3], [6, 7]], [[3, 4], [7, 8]])
    """
    return stream(
        (ids[:-1], ids[1:]), batch, bptt, drop_last=not every_token, padding=(0, IGNORED), rank=0, world_size=1
    )
