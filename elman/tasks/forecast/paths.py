"""Sampled paths of a series: joint samples of all steps of the horizon.

At each step, a path is at a quantile of the forecast. Which quantiles it has from step to step is an empirical copula:
those of the true values of a window of the validation part, among all these windows (the Schaake shuffle: Clark et al.
2004, "The Schaake shuffle", Journal of Hydrometeorology 5; Schefzik, Thorarinsdottir and Gneiting 2013, "Uncertainty
quantification in complex simulation models using ensemble copula coupling", Statistical Science 28). So at each step
paths are distributed as the forecast, and errors go on from step to step as they did.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor
from typing_extensions import override

from elman.data.examples import Example
from elman.errors import BadInput
from elman.io.run_folder import Run
from elman.io.schema import restoring
from elman.tasks.codec import Codec
from elman.tasks.forecast.codec import ForecastCodec
from elman.tasks.forecast.data import Window
from elman.tasks.forecast.encoding import Scaling
from elman.tasks.forecast.model import ForecastBatch, ForecastNetwork
from elman.tasks.forecast.numerals import Values

PATHS = "paths"  # the tensors in the run folder
MAX_TEMPLATES = 1000  # windows whose errors are kept
MIN_TEMPLATES = 2
MIN_DISTANCE = 1e-9  # of quantiles


def normal_scores(values: Values, quantiles: Values, levels: Sequence[float]) -> Values:
    """Return where values (...) lie among quantiles (..., Q): the scores of a normal distribution with these levels.

    Between two quantiles the score is linear, and so it goes on beyond the outermost: a distribution of normal pieces.

    >>> normal_scores(np.array([5.0, 8.0]), np.array([[4.0, 5.0, 6.0], [4.0, 5.0, 6.0]]), [0.1, 0.5, 0.9]).round(2)
    array([0.  , 3.84])
    """
    z = ndtri(levels)
    piece = np.clip((values[..., None] >= quantiles).sum(-1) - 1, 0, max(len(z) - 2, 0))
    begin, end = (np.take_along_axis(quantiles, (piece + k)[..., None], -1)[..., 0] for k in (0, 1))
    share = (values - begin) / np.maximum(end - begin, MIN_DISTANCE)
    return np.asarray(z[piece] + share * (z[piece + 1] - z[piece]))


def values_at(scores: Values, quantiles: Values, levels: Sequence[float]) -> Values:
    """Return the values (N, F) at normal scores (N, F), of quantiles (F, Q): the inverse of `normal_scores`."""
    if len(levels) == 1:
        return np.broadcast_to(quantiles[:, 0], scores.shape)
    z = ndtri(levels)
    piece = np.clip(np.searchsorted(z, scores, "right") - 1, 0, len(z) - 2)
    steps = np.arange(scores.shape[1])
    begin, end = quantiles[steps, piece], quantiles[steps, piece + 1]
    return np.asarray(begin + (scores - z[piece]) / (z[piece + 1] - z[piece]) * (end - begin))


@torch.no_grad()
def fit_templates(model: ForecastNetwork, batches: Iterable[ForecastBatch]) -> Tensor:
    """Return the ranks of the true values of windows among all windows, at each step of the horizon, (K, F).

    A step without a value has a score between those around it.

    Args:
        model: the calibrated network.
        batches: batches of windows that it was not trained on.
    """
    parts, steps, levels = list[Values](), np.arange(model.horizon), model.quantiles
    for batch in batches if len(levels) > 1 else ():
        quantiles, y = model(batch.steps).double().cpu().numpy(), batch.future.double().cpu().numpy()
        known = (batch.weight > 0).cpu().numpy()
        scores = normal_scores(y, quantiles, levels)
        parts += [np.interp(steps, steps[k], row[k]) for row, k in zip(scores, known, strict=True) if k.any()]
    scores = np.array(parts).reshape(-1, model.horizon)
    scores = scores[:: -(-len(scores) // MAX_TEMPLATES) or 1]
    return torch.from_numpy(scores.argsort(0, kind="stable").argsort(0, kind="stable").astype(np.int32))


def load_templates(run: Run, horizon: int) -> Values:
    """Load the ranks of `fit_templates` from a run.

    Raises:
        BadInput: if the run has none, or damaged ones.
    """
    path = run.path / f"{PATHS}.safetensors"
    if not path.exists():
        raise BadInput(
            f"{path}: expected the errors of the validation part, from which paths are sampled, got no file; it is "
            "written when a training ends"
        )
    ranks = run.load_tensors(PATHS)
    with restoring(path, "the errors of `elman train forecast`"):
        array = ranks["ranks"].numpy()
        if array.ndim != 2 or array.shape[1] != horizon or (np.sort(array, 0) != np.arange(len(array))[:, None]).any():
            raise ValueError(f"ranks of shape {array.shape}")
    if len(array) < MIN_TEMPLATES:
        raise BadInput(f"{path}: expected the errors of {MIN_TEMPLATES} windows or more, got {len(array)}")
    return np.asarray(array, np.float64)


class PathCodec(Codec):
    """Encodes windows as a `ForecastCodec` does, and decodes paths.

    Args:
        codec: the codec of the run.
        ranks: from `load_templates`, (K, F).
        samples: N, number of paths of each window.
        seed: random seed; None: a random one.
    """

    def __init__(self, codec: ForecastCodec, ranks: Values, samples: int, seed: int | None) -> None:
        self._codec, self._ranks, self._samples = codec, ranks, samples
        self._random = np.random.default_rng(seed)

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: Any) -> "PathCodec":
        raise NotImplementedError  # the codec of the run is fitted

    @override
    def model_args(self, options: Any) -> dict[str, Any]:
        return self._codec.model_args(options)

    @override
    def encode(self, example: Example) -> tuple[Any, int]:
        return self._codec.encode(example)

    @override
    def collate(self, encoded: Sequence[Any]) -> ForecastBatch:
        return self._codec.collate(encoded)

    @override
    def predict(self, model: Any, batch: Any) -> list[Any]:
        """Return paths (N, F) in units of the series."""
        quantiles = model(batch.steps).double().cpu().numpy()
        levels, is_log = self._codec.levels, self._codec.is_log
        standardized = torch.from_numpy(np.stack([values_at(self._scores(), of, levels) for of in quantiles]))
        restored = Scaling(*map(torch.from_numpy, batch.scaling)).restore(standardized.flatten(1), is_log)
        return list(restored.reshape(standardized.shape).numpy())

    def _scores(self) -> Values:
        """Draw the normal scores of paths, (N, F): each has the ranks of a window, moved by up to one."""
        K, N = len(self._ranks), self._samples
        drawn = np.concatenate([self._random.permutation(K) for _ in range(-(-N // K))])[:N]
        return np.asarray(ndtri((self._ranks[drawn] + self._random.random((N, 1))) / K))

    @override
    def to_row(self, prediction: Any) -> dict[str, Any]:
        """Return the last values of the first path."""
        return {"value": float(prediction[0, -1])}

    @override
    def to_rows(self, number: int, name: str, example: Example, prediction: Any) -> Iterator[dict[str, Any]]:
        """Yield a row for each path and step."""
        window: Window = example.input
        stamps = [window.series.stamp(window.origin + step) for step in range(window.horizon)]
        for sample, path in enumerate(prediction, 1):
            for stamp, value in zip(stamps, path, strict=True):
                yield {
                    "series": window.series.name, "sample": sample, "time": stamp, "value": float(f"{value:.6g}")
                }  # fmt: skip
