"""The exported network of series, which takes features of steps as the codec makes them."""

import torch
from torch import Tensor, nn

from elman.tasks.export_part import BATCH, STEPS, Exportable, ExportPart, TensorSpec
from elman.tasks.series.model import QUANTILES, SeriesNetwork
from elman.tasks.task import Loaded


class ExportedSeriesNetwork(nn.Module):
    """A network of series whose quantiles are in the units of the data.

    Args:
        model: the network.
        mean: of the numbers to predict; 0 for labels.
        std: of the numbers to predict; 1 for labels.
    """

    def __init__(self, model: SeriesNetwork, mean: float, std: float) -> None:
        super().__init__()
        self.model, self.mean, self.std = model, mean, std

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Map steps (T, B, D) and lengths (B,) to logits (B, K) or quantiles (B, 3)."""
        outputs: Tensor = self.model(steps, lengths)
        return outputs if self.model.labels else outputs * self.std + self.mean


def export(loaded: Loaded) -> Exportable:
    """Return the model, the labels, and how series become features of steps."""
    model, codec = loaded.model, loaded.codec
    inputs = loaded.run.config["model"]["inputs"]
    steps = TensorSpec(name="steps", shape=(STEPS, BATCH, inputs), about="features of each step; zero behind the end")
    lengths = TensorSpec(
        name="lengths", shape=(BATCH,), dtype=torch.int64, lengths_of=STEPS, about="steps of each series"
    )
    outputs = (
        TensorSpec(name="logits", shape=(BATCH, len(codec.labels)), about="of each label")
        if codec.labels
        else TensorSpec(name="quantiles", shape=(BATCH, len(QUANTILES)), about="in ascending order")
    )
    part = ExportPart(
        name="model",
        about="maps series to the logits of the labels" if codec.labels else "maps series to quantiles of the number",
        module=ExportedSeriesNetwork(model, codec.target_mean, codec.target_std),
        inputs=(steps, lengths),
        outputs=(outputs,),
        not_layers="convolutions, the mean and the maximum over all steps",
    )
    names = ("mean", "std", "scale", "has_missing", "every")
    settings = {"labels": codec.labels} if codec.labels else {"quantiles": QUANTILES}
    return Exportable([part], settings | {name: getattr(codec, name) for name in names})
