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


def register_layer(layer: "Layer") -> Tensor:
    """Give a layer a new id; it is a tensor so that torch.compile takes it for an input of the graph."""
    layer_id = next(_new_ids)
    _layers[layer_id] = layer
    with without_modes(), torch.inference_mode(False):
        return torch.tensor(layer_id, device="cpu")


def find_layer(layer_id: int) -> "Layer":
    """Return the layer with this id, if it is still alive."""
    return _layers[layer_id]
