"""Cells over time as modules: `RNN`, `GRU` and `LSTM` as in torch.nn, and `Recurrent` for any cell."""

from elman.layers.recurrent import Recurrent
from elman.layers.stack import GRU, LSTM, RNN, Stack

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "Stack"]
