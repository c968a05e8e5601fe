"""The text of the recording that sounds most alike, however fast each is spoken: dynamic time warping.

    D_ij = |a_i - b_j| + min(D_{i-1,j}, D_{i,j-1}, D_{i-1,j-1})        a, b: steps of two recordings, D_11 = |a_1 - b_1|

Their distance is the last D over the sum of their lengths. H. Sakoe and S. Chiba, "Dynamic programming algorithm
optimization for spoken word recognition", IEEE ASSP 26 (1978).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from elman.data.examples import Example
from elman.tasks.supervised import Baseline
from elman.tasks.text_output import kept_texts, restored_texts
from elman.tasks.transcribe.prediction import TranscribePrediction

MOST = 1000  # recordings that are compared with, and fewer where they are long:
WORK = 20_000_000  # pairs of steps for each recording that is asked about, about a fifth of a second
ROOM = 4_000_000  # pairs that stand in memory at once

Steps = NDArray[np.float32]
Read = Callable[[Any, Example], Steps]  # of a codec and an example, (T, D)


class Nearest(Baseline):
    """The text of the nearest of the recordings that were trained on, of these as many as are soon compared with.

    Args:
        read: steps of an example.
        codec: what these are read with.
        templates: steps of N recordings.
        texts: N of them.
    """

    def __init__(self, read: Read, codec: Any, templates: Sequence[Steps], texts: Sequence[str]) -> None:
        self._read, self._codec, self._templates, self._texts = read, codec, list(templates), list(texts)
        self.title = f"nearest of {len(texts):,} recordings (DTW)"

    @classmethod
    def fit(cls, read: Read, codec: Any, train: Sequence[Example]) -> "Nearest":
        """Of these, evenly from the first to the last if they are too many."""
        longest = max(len(read(codec, example)) for example in train)
        count = max(1, min(len(train), MOST, WORK // longest**2))
        chosen = [train[i] for i in np.linspace(0, len(train) - 1, count).round().astype(int).tolist()]
        return cls(read, codec, [read(codec, example) for example in chosen], [example.target for example in chosen])

    @override
    def say(self, examples: Sequence[Example]) -> list[Any]:
        found = (distances(self._read(self._codec, example), self._templates).argmin() for example in examples)
        return [TranscribePrediction(self._texts[i]) for i in found]

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            "templates": torch.from_numpy(np.concatenate(self._templates)),
            "lengths": torch.tensor([len(steps) for steps in self._templates]),
            "texts": kept_texts(self._texts),
        }

    @classmethod
    def restored(cls, read: Read, codec: Any, tensors: dict[str, torch.Tensor]) -> "Nearest":
        """The same of what a run has kept."""
        templates = tensors["templates"].split(tensors["lengths"].tolist())
        return cls(read, codec, [steps.numpy() for steps in templates], restored_texts(tensors["texts"]))


def distances(query: Steps, templates: Sequence[Steps]) -> NDArray[np.float32]:
    """Of a recording (A, D) to each of N others (T, D): (N,)."""
    longest = max(map(len, templates))
    count = max(1, ROOM // (len(query) * longest))
    groups = [templates[begin : begin + count] for begin in range(0, len(templates), count)]
    return np.concatenate([_warped(query, group) for group in groups])


def _warped(query: Steps, templates: Sequence[Steps]) -> NDArray[np.float32]:
    """The same, all side by side, one diagonal i + j after the other: what is on one depends on the two before."""
    A, N, lengths = len(query), len(templates), np.array([len(steps) for steps in templates])
    B = int(lengths.max())
    beside = np.zeros((B, N, query.shape[1]), np.float32)
    for n, steps in enumerate(templates):
        beside[: len(steps), n] = steps
    square = (query**2).sum(1)[:, None, None] + (beside**2).sum(2) - 2 * np.tensordot(query, beside, (1, 2))
    cost = np.sqrt(np.maximum(square, 0))  # (A, B, N)
    before, last = np.full((2, A + 1, N), np.inf, np.float32)  # row i + 1 has i; row 0 is outside
    found = np.full(N, np.inf, np.float32)
    for d in range(A + B - 1):
        i = np.arange(max(0, d - B + 1), min(A, d + 1))
        least = np.minimum(np.minimum(last[i], last[i + 1]), before[i]) if d else np.zeros((1, N), np.float32)
        now = np.full_like(last, np.inf)
        now[i + 1] = cost[i, d - i] + least
        ends = lengths == d - A + 2
        found[ends] = now[A, ends]
        before, last = last, now
    return np.asarray(found / (A + lengths), np.float32)
