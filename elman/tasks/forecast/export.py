"""The exported forecaster: from values in the units of the data to quantiles in these units."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from elman.tasks.export_part import BATCH, Exportable, ExportPart, TensorSpec
from elman.tasks.forecast.model import ForecastNetwork
from elman.tasks.forecast.options import COVARIATES
from elman.tasks.task import Loaded

if TYPE_CHECKING:
    from elman.tasks.forecast.codec import ForecastCodec

DAY = 86_400_000_000  # microseconds


class ExportedForecaster(nn.Module):
    """A forecaster with the encoding of its windows, in float64, as operations on tensors.

    Args:
        model: the network.
        codec: the codec.
    """

    def __init__(self, model: ForecastNetwork, codec: "ForecastCodec") -> None:
        super().__init__()
        self.model, self.encoder = model, codec.encoder

    def forward(self, values: Tensor, *others: Tensor) -> Tensor:
        """Forecast: map what `WindowEncoder` takes to quantiles (B, F, Q)."""
        features, scaling = self.encoder(values, *others)
        quantiles: Tensor = self.model(features.transpose(0, 1).float()).double()
        restored: Tensor = scaling.restore(quantiles.flatten(1), self.encoder.is_log)
        return restored.reshape(quantiles.shape)


def export(loaded: Loaded) -> Exportable:
    """Return the model, with its scaling, and the sizes and columns that it reads."""
    codec, sizes = loaded.codec, loaded.codec.sizes
    P, C, T = sizes.past, sizes.context, sizes.context + sizes.horizon
    inputs = [
        TensorSpec(
            name="values", shape=(BATCH, P), dtype=torch.float64, about="the past, NaN where unknown",
            draw=lambda of, generator: _values(of[BATCH], P, sizes.min_context, generator),
        )
    ]  # fmt: skip
    if codec.cycles:
        about = f"local time of the last {C} steps and of the horizon, microseconds since 1970"
        inputs.append(TensorSpec(name="time", shape=(BATCH, T), dtype=torch.int64, high=3650 * DAY, about=about))
    known = len(codec.future_means) + bool(codec.holidays)
    others = {
        "covariates": ((C, len(codec.means)), f"of the last {C} steps, NaN where unknown"),
        "future_covariates": ((T, known), f"of the last {C} steps and of the horizon, NaN where unknown"),
        "static_covariates": ((codec.encoder.static,), "of the series: standardized numbers, one-hot categories"),
    }
    inputs += [
        TensorSpec(name=name, shape=(BATCH, *shape), dtype=torch.float64, about=about)
        for name, (shape, about) in others.items()
        if shape[-1]
    ]
    quantiles = TensorSpec(
        name="quantiles",
        shape=(BATCH, codec.horizon, len(codec.levels)),
        dtype=torch.float64,
        about="in ascending order",
    )
    part = ExportPart(
        name="model",
        about="maps the past of series to quantiles of the future, both in the units of the data",
        module=ExportedForecaster(loaded.model, codec),
        inputs=tuple(inputs),
        outputs=(quantiles,),
        not_layers="the scaling of each window",
    )
    settings: dict[str, Any] = {
        **sizes._asdict(), "past": P, "min_context": sizes.min_context, "quantiles": codec.levels,
        "static": [column if isinstance(column, list) else list(column) for column in codec.static],
    }  # fmt: skip
    names = ("step", "time", "target", "series", *COVARIATES, "holidays", "timezone")
    return Exportable([part], settings | {name: getattr(loaded.options, name) for name in names})


def _values(count: int, past: int, min_known: int, generator: torch.Generator) -> Tensor:
    """Draw random walks with gaps, of which the first are too short."""
    walks = 100 + 10 * torch.randn((count, past), generator=generator, dtype=torch.float64).cumsum(1)
    gaps = torch.rand((count, past), generator=generator) < 0.1
    gaps[::2, : past - min_known] = True
    gaps[:, -2:] = False
    return walks.masked_fill(gaps, torch.nan)
