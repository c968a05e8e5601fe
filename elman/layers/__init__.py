"""Cells over time as modules: `RNN`, `GRU` and `LSTM` as in torch.nn, and `Recurrent` for any cell."""

from elman.layers.recurrent import Recurrent
from elman.layers.rnn import GRU, LSTM, RNN
from elman.layers.stack import Stack

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "Stack"]
