"""The encoding of windows as features for the network, as operations on tensors that exports share."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from elman.data.time_index.clock import CYCLES, Cycle
from elman.tasks.forecast.data import RELATIVE_TOLERANCE
from elman.tasks.forecast.options import MEAN_SEASONS, SECOND_SEASONS, Sizes

MIN_SPREAD = 0.1  # of a window, in units of its mean seasonal difference
LINEAR_SHARE = 0.01  # of the mean of a window: around it, a logarithmic scale turns linear towards zero
MAX_LOG = 80.0  # of restored values on a logarithmic scale, before the exponential function

Center = Literal["last value", "last season"]
FIRST_OF_PAST = 2  # the first column of the features that repeat the past: the last value, then those of seasons


class Scaling(NamedTuple):
    """The parameters by which the values of windows are standardized, each of shape (B, 1).

    floor: size of values around which a logarithmic scale turns linear; 0 for a linear scale.
    center: last value, or mean of the last season, on the scale.
    spread: standard deviation, on the scale.
    """

    floor: Tensor
    center: Tensor
    spread: Tensor

    def standardize(self, values: Tensor, is_log: bool) -> Tensor:
        """Return values (B, T) on the scale, minus the center, divided by the spread."""
        return ((to_log(values, self.floor) if is_log else values) - self.center) / self.spread

    def restore(self, standardized: Tensor, is_log: bool) -> Tensor:
        """Return the values of standardized ones, (B, T)."""
        values = standardized * self.spread + self.center
        if not is_log:
            return values
        values = values.clamp(-MAX_LOG, MAX_LOG)
        return self.floor * (values.exp() - (-values).exp())


def to_log(values: Tensor, floor: Tensor) -> Tensor:
    """Return the inverse hyperbolic sine of half of values / floor: log(values / floor) for values far above the floor.

    Unlike the logarithm, it takes zero and negative values.

    >>> to_log(torch.tensor([-100.0, 0.0, 0.1, 1.0, 100.0]), torch.tensor(1.0))
    tensor([-4.6053,  0.0000,  0.0500,  0.4812,  4.6053])
    """
    half = values / (2 * floor)
    return half.sign() * (half.abs() + (half.square() + 1).sqrt()).log()


class Encoded(NamedTuple):
    """Encoded windows: the features of each step of context and horizon (B, T, D), and the scaling of the values."""

    features: Tensor
    scaling: Scaling


class WindowEncoder(nn.Module):
    """Encodes windows, in float64. Each is standardized by its own past.

    A window has P past steps, of which the network reads the last C, its context. NaN marks unknown values, as those
    before the beginning of a series.

    The features of a step are the value (0 in the horizon), whether it is known, the last value of all, the value one
    season before, the mean over up to `MEAN_SEASONS` seasons before; with a second season, the value one second season
    before, in the horizon plus the change of the level since then, that value alone, and the mean over up to
    `SECOND_SEASONS`; the log of the spread in units of the mean seasonal difference; calendar cycles as sines and
    cosines; and covariates.

    Args:
        sizes: sizes of the windows.
        is_log: whether values are standardized on a logarithmic scale.
        center: what is 0 on the standardized scale: "last value", or "last season" for its mean.
        cycles: calendar cycles.
        past: mean and standard deviation of each covariate whose future is unknown.
        future: mean and standard deviation of each covariate whose future is known.
        static: number of features of a series.
    """

    past_means: Tensor
    past_spreads: Tensor
    future_means: Tensor
    future_spreads: Tensor

    def __init__(
        self,
        sizes: Sizes,
        is_log: bool,
        center: Center,
        cycles: list[Cycle],
        past: tuple[list[float], list[float]],
        future: tuple[list[float], list[float]],
        static: int,
    ) -> None:
        super().__init__()
        self.sizes, self.is_log, self.center, self.static = sizes, is_log, center, static
        self.cycles = [CYCLES[name] for name in cycles]
        for kind, statistics in (("past", past), ("future", future)):
            for name, numbers in zip(("means", "spreads"), statistics, strict=True):
                self.register_buffer(f"{kind}_{name}", torch.tensor(numbers, dtype=torch.float64))

    @property
    def size(self) -> int:
        """Number of features of a step."""
        of_second = 3 if self.sizes.second_season else 0
        return 6 + of_second + 2 * len(self.cycles) + len(self.past_means) + len(self.future_means) + self.static

    @property
    def of_past(self) -> slice:
        """The columns of features that repeat the past: the last value, and values and means of seasons before."""
        return slice(FIRST_OF_PAST, FIRST_OF_PAST + (6 if self.sizes.second_season else 3))

    def forward(self, values: Tensor, *others: Tensor) -> Encoded:
        """Encode windows.

        Args:
            values: (B, P), the past.
            others: with calendar cycles, the local time of each step of context and horizon, (B, C + F), in
                microseconds; with such covariates, those of the context (B, C, K), those of context and horizon
                (B, C + F, L), and the features of series (B, M); NaN where unknown.
        """
        rest = list(others)
        known, at = ~values.isnan(), torch.arange(self.sizes.past, device=values.device).expand_as(values)
        latest, sources = self._sources(known, at)
        is_inside = latest >= 0
        values = values.masked_fill(~known, 0)
        scaling, unit = self._scaling(values, values.gather(1, sources), known, is_inside)
        z = scaling.standardize(values.gather(1, sources), self.is_log).masked_fill(~is_inside, 0)
        C, F = self.sizes.context, self.sizes.horizon
        columns = [pad(z[:, -C:], (0, F)), pad((known & is_inside)[:, -C:].to(z), (0, F))]
        columns += [z[:, -1:].expand(-1, C + F), *self._seasons(z, is_inside)]
        columns.append((scaling.spread / unit).log().expand(-1, C + F))
        if self.cycles:
            moments = rest.pop(0)
            for cycle in self.cycles:
                angles = 2 * math.pi * (moments % cycle).to(z) / cycle
                columns += [angles.sin(), angles.cos()]
        features = [torch.stack(columns, 2)]
        if len(self.past_means):
            features.append(pad(_standardized(rest.pop(0), self.past_means, self.past_spreads), (0, 0, 0, F)))
        if len(self.future_means):
            features.append(_standardized(rest.pop(0), self.future_means, self.future_spreads))
        if self.static:
            features.append(rest.pop(0).nan_to_num(0).unsqueeze(1).expand(-1, C + F, -1))
        return Encoded(torch.cat(features, 2), scaling)

    def _sources(self, known: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latest known step up to each step, -1 if there is none; and the step whose value fills each step.

        A gap is filled with the latest value in the same place of the season, or with the latest value of any.
        """
        latest, in_phase = torch.where(known, at, -1), torch.where(known, at, -1)
        for lag in _doublings(1, self.sizes.past):
            latest = torch.maximum(latest, _delayed(latest, lag, -1))
        for lag in _doublings(self.sizes.season, self.sizes.past):
            in_phase = torch.maximum(in_phase, _delayed(in_phase, lag, -1))
        return latest, torch.where(in_phase >= 0, in_phase, latest).clamp(min=0)

    def _scaling(self, values: Tensor, filled: Tensor, known: Tensor, is_inside: Tensor) -> tuple[Scaling, Tensor]:
        """Return the scaling, and the mean absolute seasonal difference on the scale, (B, 1), as `scale` does."""
        count, S = known.sum(1, keepdim=True), self.sizes.season
        floor = LINEAR_SHARE * values.abs().sum(1, keepdim=True) / count
        floor = torch.where(floor > 0, floor, LINEAR_SHARE)
        if self.is_log:
            values, filled = to_log(values, floor), to_log(filled, floor)
        std = ((values - values.sum(1, keepdim=True) / count).square() * known).sum(1, keepdim=True).div(count).sqrt()
        size = (values.abs() * known).sum(1, keepdim=True) / count
        unit = torch.where(size > 0, size, 1.0)
        for lag in dict.fromkeys((1, S)):
            both = known[:, lag:] & known[:, :-lag]
            total = ((values[:, lag:] - values[:, :-lag]).abs() * both).sum(1, keepdim=True)
            difference = total / both.sum(1, keepdim=True).clamp(min=1)
            unit = torch.where(difference > RELATIVE_TOLERANCE * std, difference, unit)
        end = 1 if self.center == "last value" else S
        center = _mean(filled[:, -end:], is_inside[:, -end:])
        return Scaling(floor, center, torch.maximum(std, MIN_SPREAD * unit)), unit

    def _seasons(self, z: Tensor, is_inside: Tensor) -> list[Tensor]:
        """Return the features of seasons, each (B, C + F)."""
        S, L, P = self.sizes.season, self.sizes.second_season, self.sizes.past
        before, mean, _ = self._before(z, is_inside, S, MEAN_SEASONS)
        if not L:
            return [before, mean]
        of_second, mean_of_second, exists = self._before(z, is_inside, L, SECOND_SEASONS)
        end = P - L  # where the context ended one second season before
        can_compare = is_inside[:, max(end - S, 0)] if end >= S else torch.zeros_like(is_inside[:, 0])
        change = (z[:, -S:].mean(1) - z[:, max(end - S, 0) : max(end, 1)].mean(1)) * can_compare
        in_horizon = torch.arange(self.sizes.context + self.sizes.horizon, device=z.device) >= self.sizes.context
        adjusted = torch.where(exists, of_second + change.unsqueeze(1) * in_horizon, before)
        return [before, mean, adjusted, of_second, mean_of_second]

    def _before(self, z: Tensor, is_inside: Tensor, season: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the value one season before each step, the mean over seasons before, and whether there is one.

        For all steps of the horizon, the last season before is that of the context.
        """
        P, C, F = self.sizes.past, self.sizes.context, self.sizes.horizon
        step = torch.arange(P - C, P + F, device=z.device)
        place = torch.where(step < P, step - season, P - season + (step - P) % season)
        places = place - season * torch.arange(min(count, -(-P // season)), device=z.device).unsqueeze(1)  # (K, C + F)
        exists = (places >= 0) & is_inside[:, places.clamp(min=0)]
        values = z[:, places.clamp(min=0)] * exists
        return values[:, 0], values.sum(1) / exists.sum(1).clamp(min=1), exists[:, 0]


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)


def _standardized(values: Tensor, means: Tensor, spreads: Tensor) -> Tensor:
    """Return covariates (..., K) minus their means, divided by their standard deviations; 0 where unknown."""
    standardized = (values - means) / spreads
    return standardized.masked_fill(standardized.isnan(), 0)


def _delayed(values: Tensor, lag: int, fill: int = 0) -> Tensor:
    """Return at each step of values (B, P) the value `lag` steps before."""
    return pad(values, (lag, 0), value=fill)[:, : values.shape[1]]


def _doublings(lag: int, limit: int) -> list[int]:
    """Return lags, each twice the one before, by which a running maximum over `limit` steps is computed.

    >>> _doublings(3, 20)
    [3, 6, 12]
    """
    lags = []
    while lag < limit:
        lags.append(lag)
        lag *= 2
    return lags
