"""Encoding of series as features of steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from elman.data.examples import Example
from elman.errors import BadInput
from elman.io.format import counted
from elman.io.schema import Positive, Size
from elman.tasks.classification import ClassificationCodec, fit_labels
from elman.tasks.codec import NO_LABEL
from elman.tasks.series.archive import Channels
from elman.tasks.series.model import SeriesBatch
from elman.tasks.series.options import SeriesOptions

MIN_SPREAD = 1e-4  # of a channel in a series, in standard deviations of the training: less is rounding
STATISTICS = 8  # of each channel, for the baselines
KERNELS = (9, 21)  # steps of the first convolution's kernel, at least and at most
STEPS_PER_KERNEL = 7  # steps of the longest series of the training part for a step of that kernel
RECURRENT_STEPS = 64  # that the recurrent layers read of the longest series of the training part, about


@dataclass(frozen=True)
class SeriesCodec(ClassificationCodec):
    """Encodes series as features of steps.

    The features of a step are its channels, standardized; with "series", also the mean and the log standard deviation
    of each channel in the series; and, if the training part has missing values, which channels are known. Missing
    values are interpolated linearly.

    Attributes:
        labels: in order; none if numbers are predicted.
        mean, std: of each channel, over all steps of the training part.
        scale: whether channels are standardized by these ("channel"), or in each series ("series").
        has_missing: whether the features say which channels are known.
        every: steps that are averaged to one.
        stride: steps of the convolutions that the recurrent layers read as one.
        target_mean, target_std: of the numbers to predict.
        folds: members that are each validated on a fold of the training part; 0: there is a validation part.
        kernel: steps of the first convolution's kernel.
    """

    mean: list[float]
    std: list[Positive]
    scale: Literal["channel", "series"]
    has_missing: bool
    every: Size
    stride: Size
    target_mean: float
    target_std: Positive
    folds: Annotated[int, Field(ge=0)] = 0
    kernel: Size = KERNELS[0]

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: SeriesOptions) -> "SeriesCodec":
        moments, longest, has_missing, targets = _Moments(), 0, False, list[Any]()
        for example in train:
            moments.add(example.input)
            longest = max(longest, len(example.input))
            has_missing |= bool(np.isnan(example.input).any())
            targets.append(example.target)
        mean, std = moments.result()
        every = -(-longest // options.steps)
        stride = max(1, round(longest / every / RECURRENT_STEPS))
        kernel = int(np.clip(longest // every // STEPS_PER_KERNEL, *KERNELS)) | 1
        features = (options.scale, has_missing, every, stride)
        folds = options.members if options.hold_out == "folds" else 0
        if not isinstance(targets[0], float):
            return cls(fit_labels("series", targets), mean, std, *features, 0.0, 1.0, folds, kernel)
        numbers = np.array(targets)
        return cls([], mean, std, *features, float(numbers.mean()), float(numbers.std()) or 1.0, folds, kernel)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            counts = f"{len(self.mean)} and {len(self.std)}"
            raise ValueError(f"mean, std: expected as many means as deviations, got {counts}")

    @override
    def model_args(self, options: SeriesOptions) -> dict[str, Any]:
        C = len(self.mean)
        inputs = C * (1 + 2 * (self.scale == "series") + self.has_missing)
        names = (
            "cell", "hidden", "layers", "dropout", "filters", "members", "smoothing", "jitter", "warp", "bptt"
        )  # fmt: skip
        sizes = {"inputs": inputs, "channels": C, "labels": len(self.labels)}
        sizes |= {"stride": self.stride, "kernel": self.kernel}
        return sizes | {name: getattr(options, name) for name in names}

    def steps(self, example: Example) -> NDArray[np.float32]:
        """Return the features of a series, (T, D).

        Raises:
            BadInput: for another number of channels than in the training.
        """
        self.check_channels(example)
        x = averaged((example.input - np.array(self.mean)) / np.array(self.std), self.every)
        known = ~np.isnan(x)
        x, features = interpolated(x), list[NDArray[Any]]()
        if self.scale == "series":
            mean, std = x.mean(0), x.std(0)
            spread = np.maximum(std, MIN_SPREAD)
            x = (x - mean) / spread
            features = [np.broadcast_to(statistic, x.shape) for statistic in (mean, np.log(spread) / 3)]
        features = [x, *features, *([known] if self.has_missing else [])]
        return np.concatenate(features, 1).astype(np.float32)

    def check_channels(self, example: Example) -> None:
        """Check that a series has the channels of the training.

        Raises:
            BadInput: for another number of channels.
        """
        C = len(self.mean)
        if example.input.shape[1] != C:
            raise BadInput(
                f"{example.name}: expected {counted(C, 'channel')} as in the training, got {example.input.shape[1]}"
            )

    @override
    def encode(self, example: Example) -> tuple[Any, int]:
        """Return the features of steps (T, D), and the label number or the standardized number."""
        steps = torch.from_numpy(self.steps(example))
        if self.labels:
            return (steps, self.label.get(example.target, NO_LABEL)), len(steps)
        return (steps, ((example.target or 0.0) - self.target_mean) / self.target_std), len(steps)

    @override
    def collate(self, encoded: Sequence[Any]) -> SeriesBatch:
        steps, targets = zip(*encoded, strict=True)
        lengths = torch.tensor([len(x) for x in steps])
        return SeriesBatch(pad_sequence(list(steps)), lengths, torch.tensor(targets))

    @override
    def predict(self, model: Any, batch: SeriesBatch) -> list[Any]:
        """Return the probabilities of all labels (K,), or the quantiles of the number (3,), for each series."""
        outputs = model(batch.steps, batch.lengths).cpu().double()
        return list(outputs.softmax(1).numpy() if self.labels else self.target_mean + self.target_std * outputs.numpy())

    @override
    def check_target(self, example: Example) -> None:
        self.check_channels(example)
        if self.labels:
            super().check_target(example)
        elif not isinstance(example.target, float):
            raise BadInput(
                f"{example.name}: expected a number as in the training, got the label {example.target!r:.60}"
            )

    @override
    def to_row(self, prediction: Any) -> dict[str, Any]:
        if self.labels:
            return super().to_row(prediction)
        low, median, high = (float(f"{value:.6g}") for value in prediction)
        return {"value": median, "low": low, "high": high}

    @property
    def feature_count(self) -> int:
        """The number of features of a series for the baselines."""
        return 1 + STATISTICS * len(self.mean)

    @override
    def features(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Return statistics of the channels of series, (N, 1 + 8 C), and their lengths."""
        return np.stack([_statistics(example.input, self.mean, self.std) for example in examples])


class _Moments:
    """Mean and standard deviation of each channel, from sums in float64 over the known values of series."""

    def __init__(self) -> None:
        self._sums: NDArray[np.float64] | None = None

    def add(self, x: Channels) -> None:
        """Add the values of a series."""
        if self._sums is None:
            self._sums, self._shift = np.zeros((3, x.shape[1])), np.nan_to_num(x[:1].astype(np.float64))[0]
        values = x.astype(np.float64) - self._shift
        known = ~np.isnan(values)
        values[~known] = 0
        self._sums += np.stack((known.sum(0), values.sum(0), np.square(values).sum(0)))

    def result(self) -> tuple[list[float], list[float]]:
        """Return means and standard deviations; 0 and 1 for a channel without values, 1 for one without spread."""
        assert self._sums is not None
        count, total, squares = self._sums
        mean = total / np.maximum(count, 1)
        std = np.sqrt(np.maximum(squares / np.maximum(count, 1) - np.square(mean), 0))
        std[std <= 1e-9 * np.maximum(np.abs(mean + self._shift), 1e-30)] = 1.0
        return (mean + self._shift).tolist(), std.tolist()


def averaged(x: NDArray[Any], every: int) -> NDArray[Any]:
    """Return the means of the known values of `every` steps each; NaN where none is known.

    >>> averaged(np.array([[1.0], [3.0], [np.nan], [np.nan], [5.0]]), 2).ravel()
    array([ 2., nan,  5.])
    """
    if every == 1:
        return x
    begins = np.arange(0, len(x), every)
    known = ~np.isnan(x)
    sums, counts = (np.add.reduceat(part, begins) for part in (np.where(known, x, 0), known.astype(np.float64)))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def interpolated(x: NDArray[Any]) -> NDArray[Any]:
    """Return channels (T, C) with missing values interpolated; 0 in a channel without values.

    >>> interpolated(np.array([[np.nan, np.nan], [1, np.nan], [np.nan, np.nan], [3, np.nan]])).T
    array([[1., 1., 2., 3.],
           [0., 0., 0., 0.]])
    """
    missing = np.isnan(x)
    if not missing.any():
        return x
    x, at = x.copy(), np.arange(len(x))
    for channel, gaps in zip(x.T, missing.T, strict=True):
        channel[gaps] = np.interp(at[gaps], at[~gaps], channel[~gaps]) if not gaps.all() else 0.0
    return x


def _statistics(x: Channels, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float64]:
    """Return the log length; and of each channel the mean, deviation, extremes, ends, slope and mean step."""
    z = interpolated((x - np.array(mean)) / np.array(std))
    at = np.linspace(-1, 1, len(z))[:, None]
    step = np.abs(np.diff(z, axis=0)).mean(0) if len(z) > 1 else np.zeros(z.shape[1])
    parts = (z.mean(0), z.std(0), z.min(0), z.max(0), z[0], z[-1], (at * z).mean(0), step)
    return np.concatenate(([np.log(len(x))], *parts))
