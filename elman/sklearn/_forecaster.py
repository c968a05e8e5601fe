"""A forecaster of time series."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from elman.decoding.quantiles import ordered_quantiles, pinball_loss
from elman.extras import needs
from elman.io.validate import check_whole
from elman.sklearn._recurrent import Array, RecurrentEstimator, nonzero

with needs("tasks", "elman.sklearn"):
    from sklearn.utils.validation import check_array, check_is_fitted

SHORTEST = 8  # steps of context that a forecaster has at least by default


class Forecaster(RecurrentEstimator):
    """Forecast one or several time series, with intervals, by a recurrent network.

    The network reads windows of the series and predicts the next `horizon` values at once, as differences from the
    values one season before, by the pinball loss. All series share its weights.

    Args:
        horizon: steps that can be forecast.
        season: steps after which the series repeats itself; 1: differences are from the last value.
        context: steps that are read; None: twice the larger of season and horizon, at least 8.
        coverage: share of the values that are to be inside the intervals.
        cell: a name in `elman.cells.REGISTRY`: "rnn", "gru", "lstm" and others.
        hidden: size of the hidden state of each layer.
        layers: number of recurrent layers.
        dropout: dropout probability between layers and before the output.
        epochs: passes over the data. All are trained.
        batch: windows in a batch.
        lr: learning rate of AdamW at its highest; it falls to zero along a cosine.
        clip: largest norm of the gradient.
        random_state: seed for weights, order and dropout; an int gives the same model again.

    Attributes:
        model_: the trained network.
        loss_curve_: mean training loss of each epoch.

    >>> tide = 5 + np.sin(np.arange(120) * np.pi / 6)
    >>> model = Forecaster(horizon=12, season=12, hidden=8, epochs=5, random_state=0).fit(tide[:108])
    >>> bool(np.abs(model.predict() - tide[108:]).max() < 0.3)
    True
    >>> model.predict_interval(fh=3).shape
    (3, 2)
    """

    def __init__(
        self,
        horizon: int = 1,
        season: int = 1,
        context: int | None = None,
        coverage: float = 0.8,
        cell: str = "gru",
        hidden: int = 32,
        layers: int = 1,
        dropout: float = 0.0,
        epochs: int = 50,
        batch: int = 32,
        lr: float = 0.01,
        clip: float = 1.0,
        random_state: Any = None,
    ) -> None:
        self.horizon, self.season, self.context, self.coverage = horizon, season, context, coverage
        self.cell, self.hidden, self.layers, self.dropout = cell, hidden, layers, dropout
        self.epochs, self.batch, self.lr, self.clip, self.random_state = epochs, batch, lr, clip, random_state

    bidirectional = False  # of a context, the end counts

    def fit(self, y: ArrayLike) -> Self:
        """Train on one series, or on several.

        Args:
            y: values in order of time, (N,), or several series side by side, (N, series).

        Returns:
            The estimator.

        Raises:
            ValueError: for a series shorter than context and horizon, values that are not finite, or an invalid
                parameter; if the loss is not finite.
        """
        horizon = check_whole("Forecaster: horizon", self.horizon, 1)
        season = check_whole("Forecaster: season", self.season, 1)
        least = max(2 * max(season, horizon), SHORTEST) if self.context is None else self.context
        self._context = check_whole("Forecaster: context", least, season)
        if not 0 < self.coverage < 1:
            raise ValueError(f"Forecaster: coverage: expected a number between 0 and 1, got {self.coverage!r}")
        values = self._read(y)
        length = self._context + horizon
        if len(values) < length:
            raise ValueError(
                f"Forecaster: y: expected at least {length} steps (context and horizon), got {len(values)}"
            )
        self._shape = np.shape(y)[1:]
        self._unit = nonzero(np.abs(values[season:] - values[:-season]).mean(0))
        self._end = values[-self._context :]
        windows = np.lib.stride_tricks.sliding_window_view(values / self._unit, length, axis=0).reshape(-1, length)
        contexts, base = self._encode(windows[:, : self._context])
        targets = torch.tensor(windows[:, self._context :] - base, dtype=torch.float32)
        share = (1 - self.coverage) / 2
        levels = torch.tensor([share, 0.5, 1 - share])

        def loss(outputs: Tensor, rows: Tensor) -> Tensor:
            return pinball_loss(_quantiles(outputs), targets[rows], levels).mean()

        self._train([context.float() for context in contexts], 3 * horizon, loss)
        return self

    def predict(self, fh: int | None = None, y: ArrayLike | None = None) -> Array:
        """Forecast the medians of the next values.

        Args:
            fh: steps to forecast; None: `horizon`.
            y: the same series with later values, to forecast what follows them; None: what follows the training data.

        Returns:
            (fh,), or (fh, series) for several series.

        Raises:
            ValueError: for more steps than `horizon`, or a series that is too short.
        """
        return self._forecast(fh, y)[..., 1]

    def predict_interval(self, fh: int | None = None, y: ArrayLike | None = None) -> Array:
        """Forecast intervals that have the next values inside with the probability `coverage`.

        Args:
            fh: as for `predict`.
            y: as for `predict`.

        Returns:
            Lower and upper bounds, (fh, 2), or (fh, series, 2) for several series.

        Raises:
            ValueError: as for `predict`.
        """
        return self._forecast(fh, y)[..., [0, 2]]

    def _forecast(self, fh: int | None, y: ArrayLike | None) -> Array:
        check_is_fitted(self)
        steps = check_whole("Forecaster: fh", self.horizon if fh is None else fh, 1)
        if steps > self.horizon:
            raise ValueError(f"Forecaster: fh: expected at most {self.horizon} steps (the horizon), got {steps}")
        end = self._end if y is None else self._read(y)[-self._context :]
        if end.shape != self._end.shape:
            expected = f"at least {self._context} steps of {self._end.shape[1]} series"
            raise ValueError(f"Forecaster: y: expected {expected}, got {end.shape[0]} of {end.shape[1]}")
        contexts, base = self._encode((end / self._unit).T)
        quantiles = _quantiles(torch.from_numpy(self._run(contexts))).numpy() + base[:, :, None]
        forecast = quantiles[:, :steps].transpose(1, 0, 2) * self._unit[:, None]
        return np.asarray(forecast.reshape(steps, *self._shape, 3))

    def _read(self, y: Any) -> Array:
        """Values (N, series)."""
        values = check_array(y, dtype=np.float64, ensure_2d=False, estimator=self, input_name="y")
        return np.asarray(values.reshape(len(values), -1))

    def _encode(self, windows: Array) -> tuple[list[Tensor], Array]:
        """Contexts as the network reads them, (C, 1) from the last value on, and the values a season before, (B, F)."""
        base = windows[:, -self.season + np.arange(self.horizon) % self.season]
        return list(torch.tensor(windows - windows[:, -1:])[:, :, None]), base


def _quantiles(outputs: Tensor) -> Tensor:
    """Outputs (B, 3 * F) as quantiles (B, F, 3), the lowest first."""
    return ordered_quantiles(outputs.reshape(len(outputs), -1, 3))
