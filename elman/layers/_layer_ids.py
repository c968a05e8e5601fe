"""Layers by number: operators of torch.compile take tensors, not modules."""

from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from elman.engine.torch_private import without_modes

if TYPE_CHECKING:
    from elman.layers._layer import Layer

_layers: "WeakValueDictionary[int, Layer]" = WeakValueDictionary()
_numbers = count()


def number_of(layer: "Layer") -> Tensor:
    """A new number for a layer, as a tensor, which torch.compile takes for an input."""
    number = next(_numbers)
    _layers[number] = layer
    with without_modes(), torch.inference_mode(False):
        return torch.tensor(number, device="cpu")


def layer_of(number: int) -> "Layer":
    """The living layer of a number."""
    return _layers[number]
