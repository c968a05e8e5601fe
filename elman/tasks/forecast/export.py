"""The exported forecaster: from values in the units of the data to quantiles in these units."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from elman.data.time_index.clock import CYCLES
from elman.tasks.export_part import BATCH, STEPS, Exportable, ExportPart, Sizes, TensorSpec
from elman.tasks.forecast.data import RELATIVE_TOLERANCE
from elman.tasks.forecast.model import QUANTILES, ForecastNetwork
from elman.tasks.forecast.windows import MIN_SPREAD
from elman.tasks.task import Loaded

if TYPE_CHECKING:
    from elman.tasks.forecast.windows import ForecastCodec

DAY = 86_400_000_000  # microseconds


class ExportedForecaster(nn.Module):
    """A forecaster with the encoding of `ForecastCodec`, in float64, as operations on tensors.

    Args:
        model: the network.
        codec: the codec.
    """

    means: Tensor
    spreads: Tensor

    def __init__(self, model: ForecastNetwork, codec: "ForecastCodec") -> None:
        super().__init__()
        self.model, self.season, self.context, self.horizon = model, codec.season, codec.context, codec.horizon
        self.cycles = [CYCLES[name] for name in codec.cycles]
        self.register_buffer("means", torch.tensor(codec.means, dtype=torch.float64))
        self.register_buffer("spreads", torch.tensor(codec.spreads, dtype=torch.float64))

    def forward(self, values: Tensor, lengths: Tensor, *others: Tensor) -> Tensor:
        """Forecast.

        Args:
            values: (B, C), the context of each window, NaN where unknown; arbitrary behind its length.
            lengths: (B,), steps of each context.
            others: with calendar cycles, the times of the context (B, C) and of the horizon (B, F), in microseconds;
                with covariates, these (B, C, K).

        Returns:
            Quantiles (B, F, 3).
        """
        inside = torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)
        known = ~values.isnan() & inside
        values = values.masked_fill(~known, 0)
        count = known.sum(1, keepdim=True)
        std = ((values - values.sum(1, keepdim=True) / count).square() * known).sum(1, keepdim=True).div(count).sqrt()
        unit = self._unit(values, known, count, std)
        spread = torch.maximum(std, MIN_SPREAD * unit)
        at = torch.arange(values.shape[1], device=values.device).expand_as(values)
        last = values.gather(1, torch.where(known, at, 0).amax(1, keepdim=True))
        z = ((values.gather(1, self._sources(known, at)) - last) / spread).masked_fill(~inside, 0)
        features = self._features(z, known, (spread / unit).log(), lengths.unsqueeze(1), others)
        quantiles: Tensor = self.model(torch.stack(features, 2).float().transpose(0, 1), lengths + self.horizon)
        return quantiles.double() * spread.unsqueeze(2) + last.unsqueeze(2)

    def _unit(self, values: Tensor, known: Tensor, count: Tensor, std: Tensor) -> Tensor:
        """Return the mean absolute seasonal difference, (B, 1), as `scale` does."""
        size = values.abs().sum(1, keepdim=True) / count
        unit = torch.where(size > 0, size, 1.0)
        for lag in (1, self.season) if self.season < self.context else (1,):
            both = known & (_delayed(known.double(), lag) > 0)
            total = ((values - _delayed(values, lag)).abs() * both).sum(1, keepdim=True)
            difference = total / both.sum(1, keepdim=True).clamp(min=1)
            unit = torch.where(difference > RELATIVE_TOLERANCE * std, difference, unit)
        return unit

    def _sources(self, known: Tensor, at: Tensor) -> Tensor:
        """Return the step (B, C) whose value fills each step, as `fill_gaps` does; a known step has its own."""
        none = torch.full_like(at, -1)
        latest, in_phase = torch.where(known, at, none), torch.where(known, at, none)
        for lag in _doublings(1, min(self.season, self.context)):
            latest = torch.maximum(latest, _delayed(latest, lag, -1))
        for lag in _doublings(self.season, self.context):
            in_phase = torch.maximum(in_phase, _delayed(in_phase, lag, -1))
        first = torch.where(known, at, self.context).amin(1, keepdim=True)
        in_first_season = latest.gather(1, at % self.season)
        of_gaps = torch.where(in_first_season >= 0, in_first_season, first)
        return torch.where(in_phase >= 0, in_phase, of_gaps)

    def _features(
        self, z: Tensor, known: Tensor, size: Tensor, lengths: Tensor, others: tuple[Tensor, ...]
    ) -> list[Tensor]:
        """Return the features of context and horizon, each (B, C + F), in the order of `ForecastCodec`."""
        sums, C, F = z, z.shape[1], self.horizon
        for lag in _doublings(self.season, self.context):
            sums = sums + _delayed(sums, lag)
        step = torch.arange(C + F, device=z.device).expand(z.shape[0], -1)
        in_context, ahead, of_context = step < lengths, step - lengths, step.minimum(lengths - 1)
        # The last season of the context precedes all steps of the horizon.
        place = torch.where(in_context, step, lengths + ahead % self.season)
        has_before = place >= self.season
        one_before = (place - self.season).clamp(min=0)
        before = z.gather(1, one_before) * has_before
        mean = sums.gather(1, one_before) / (place // self.season).clamp(min=1) * has_before
        is_known = known.gather(1, of_context) & in_context
        features = [z.gather(1, of_context) * in_context, is_known.double(), before, mean, size.expand(-1, C + F)]
        if self.cycles:
            time, future = others[:2]
            moments = torch.where(in_context, time.gather(1, of_context), future.gather(1, ahead.clamp(0, F - 1)))
            for cycle in self.cycles:
                angles = 2 * math.pi * (moments % cycle).double() / cycle
                features += [angles.sin(), angles.cos()]
        if len(self.means):
            past = (others[-1] - self.means) / self.spreads
            past = past.masked_fill(past.isnan(), 0)
            features += [past[:, :, k].gather(1, of_context) * in_context for k in range(len(self.means))]
        return features


def _delayed(values: Tensor, lag: int, fill: int = 0) -> Tensor:
    """Return at each step of values (B, C) the value `lag` steps before."""
    return pad(values, (lag, 0), value=fill)[:, : values.shape[1]]


def _doublings(lag: int, limit: int) -> list[int]:
    """Return lags, each twice the one before, by which a running sum or maximum over `limit` steps is computed.

    >>> _doublings(3, 20)
    [3, 6, 12]
    """
    lags = []
    while lag < limit:
        lags.append(lag)
        lag *= 2
    return lags


def export(loaded: Loaded) -> Exportable:
    """Return the model, with its scaling, and the sizes and columns that it reads."""
    codec, context = loaded.codec, loaded.options.sizes
    K = len(codec.means)
    values = TensorSpec(
        name="values",
        shape=(BATCH, STEPS),
        dtype=torch.float64,
        about="the past, NaN where unknown; arbitrary behind the end",
        draw=_values,
    )
    lengths = TensorSpec(
        name="lengths",
        shape=(BATCH,),
        dtype=torch.int64,
        low=context.min_context,
        lengths_of=STEPS,
        about="steps of each past",
    )
    inputs = [values, lengths]
    if codec.cycles:
        about = "local time of each step, microseconds since 1970"
        times = ("time", (BATCH, STEPS)), ("future_time", (BATCH, codec.horizon))
        inputs += [
            TensorSpec(name=name, shape=shape, dtype=torch.int64, high=3650 * DAY, about=about) for name, shape in times
        ]
    if K:
        inputs.append(
            TensorSpec(
                name="covariates", shape=(BATCH, STEPS, K), dtype=torch.float64, about="of the past, NaN where unknown"
            )
        )
    quantiles = TensorSpec(
        name="quantiles", shape=(BATCH, codec.horizon, len(QUANTILES)), dtype=torch.float64, about="in ascending order"
    )
    part = ExportPart(
        name="model",
        about="maps the past of series to quantiles of the future, both in the units of the data",
        module=ExportedForecaster(loaded.model, codec),
        inputs=tuple(inputs),
        outputs=(quantiles,),
        not_layers="the scaling of each window",
        sizes={STEPS: context.min_context},
    )
    settings: dict[str, Any] = {**context._asdict(), "min_context": context.min_context, "quantiles": QUANTILES}
    names = ("step", "time", "target", "series", "covariates", "timezone")
    return Exportable([part], settings | {name: getattr(loaded.options, name) for name in names})


def _values(sizes: Sizes, generator: torch.Generator) -> Tensor:
    """Draw random walks with gaps."""
    shape = sizes[BATCH], sizes[STEPS]
    walks = 100 + 10 * torch.randn(shape, generator=generator, dtype=torch.float64).cumsum(1)
    gaps = torch.rand(shape, generator=generator) < 0.1
    gaps[:, :2] = False
    return walks.masked_fill(gaps, torch.nan)
