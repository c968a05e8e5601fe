"""A long sequence as contiguous streams read side by side: the batches of truncated BPTT."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORED = -100  # the target that no loss counts, as torch.nn.functional.cross_entropy has it


class Chunk(NamedTuple):
    """T steps of B streams."""

    inputs: Tensor  # (T, B) token ids
    targets: Tensor  # (T, B) the ids that follow, or IGNORED
    scored: int  # targets that are not ignored
    fresh: bool  # the first chunk of its streams: the state begins anew


class Streams:
    """Token ids cut into `batch` streams, each walked in chunks of `bptt` steps; chunk i follows on chunk i - 1.

    Args:
        ids: (N).
        batch: B, how many streams.
        bptt: T, how many steps to a chunk.
        every_token: keep all N - 1 targets, in a shorter last chunk and with some targets ignored. Without it the
            streams are as long as the shortest and end with the last whole chunk.

    >>> streams = Streams(np.arange(9), batch=2, bptt=2)
    >>> len(streams), streams[0].inputs.T.tolist(), streams[1].targets.T.tolist()
    (2, [[0, 1], [4, 5]], [[3, 4], [7, 8]])
    """

    def __init__(self, ids: NDArray[np.integer], batch: int, bptt: int, every_token: bool = False) -> None:
        targets = len(ids) - 1
        width = -(-targets // batch) if every_token else targets // batch
        missing = max(width * batch - targets, 0)
        self._inputs = np.pad(ids[:-1], (0, missing))[: width * batch].reshape(batch, width)
        self._targets = np.pad(ids[1:], (0, missing), constant_values=IGNORED)[: width * batch].reshape(batch, width)
        self._bptt = bptt
        self._length = -(-width // bptt) if every_token else width // bptt

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Chunk:
        if not 0 <= index < len(self):
            raise IndexError(index)
        steps = slice(index * self._bptt, (index + 1) * self._bptt)
        targets = _time_major(self._targets[:, steps])
        scored = int((targets != IGNORED).sum())
        return Chunk(_time_major(self._inputs[:, steps]), targets, scored, fresh=index == 0)


def _time_major(rows: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(rows.T.astype(np.int64))
