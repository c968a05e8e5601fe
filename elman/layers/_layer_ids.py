"""Registry of layers by id: operators of torch.compile take tensors, not modules."""

from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from elman.engine.torch_private import without_modes

if TYPE_CHECKING:
    from elman.layers._layer import Layer

_layers: "WeakValueDictionary[int, Layer]" = WeakValueDictionary()
_new_ids = count()


def register_layer(layer: "Layer") -> tuple[int, Tensor]:
    """Give a layer a new id: a number, on which torch.compile guards, and a tensor, an input of its graphs."""
    number = next(_new_ids)
    _layers[number] = layer
    with without_modes(), torch.inference_mode(False):
        return number, torch.tensor(number, device="cpu")


def find_layer(layer_id: int | Tensor) -> "Layer":
    """Return the layer with this id, if it is still alive."""
    return _layers[int(layer_id)]
