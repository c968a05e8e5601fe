"""Recurrent layers: `RNN`, `GRU` and `LSTM` as in torch.nn, `Stack`, and `Recurrent` for any cell."""

from elman.layers.recurrent import Recurrent
from elman.layers.stack import Stack
from elman.layers.torch_like import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "Stack"]
