"""The exported speech recognizer: the encoder, and the recipe of its features."""

import torch
from torch import nn

from elman.data import filter_banks
from elman.export._modules import ModuleChain
from elman.tasks.export_part import BATCH, STEPS, Exportable, ExportPart, TensorSpec
from elman.tasks.task import Loaded


def export(loaded: Loaded) -> Exportable:
    """Return the encoder, the characters, and how features are computed from a recording."""
    model, codec = loaded.model, loaded.codec
    bands, symbols = len(codec.mean), len(codec.characters) + 1
    part = ExportPart(
        name="encoder",
        about="maps features to the log probabilities of all symbols at each step; symbol 0 is the blank of CTC",
        module=model,
        inputs=(
            TensorSpec(name="steps", shape=(STEPS, BATCH, bands * codec.stack), about="features, padded with zeros"),
            TensorSpec(
                name="lengths", shape=(BATCH,), dtype=torch.int64, lengths_of=STEPS, about="steps of each recording"
            ),
        ),
        outputs=(TensorSpec(name="log_probabilities", shape=(STEPS, BATCH, symbols), about="natural logarithms"),),
        layers=None if codec.filters else ModuleChain(model.recurrent, model.output, nn.LogSoftmax(-1)),
        not_layers="convolutions",
    )
    features = filter_banks.recipe(codec.rate, bands, codec.floor)
    features |= {"normalize": codec.normalize, "mean": codec.mean, "std": codec.std, "stack": codec.stack}
    return Exportable([part], {"characters": codec.characters, "features": features})
