"""Recurrent neural networks: any cell, written as its equations in plain PyTorch, run through time.

>>> import elman, torch
>>> layer = elman.LSTM(input_size=3, hidden_size=5)   # as torch.nn.LSTM
>>> outputs, (h, c) = layer(torch.randn(7, 2, 3))     # T=7 steps, B=2 sequences
>>> outputs.shape
torch.Size([7, 2, 5])

Public names are imported when they are first asked for, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elman.description import describe
    from elman.description import explain as explain
    from elman.drawing.network import draw
    from elman.engine import named
    from elman.layers import GRU, LSTM, RNN, Recurrent, Stack
    from elman.layers.convert import convert

__version__ = "0.1.0"

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "Stack", "__version__", "convert", "describe", "draw", "named"]
ROOMS = ("bptt", "cells", "export", "flow", "serve", "sklearn", "tasks", "textbook", "tune", "weights")
HOMES = {
    "convert": "elman.layers.convert",
    "describe": "elman.description",
    "draw": "elman.drawing.network",
    "explain": "elman.description",  # deprecated
    "named": "elman.engine",
}


def __getattr__(name: str) -> object:
    if name in ROOMS:
        return import_module(f"elman.{name}")
    if name in __all__ or name in HOMES:
        return getattr(import_module(HOMES.get(name, "elman.layers")), name)
    raise AttributeError(f"module 'elman' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *ROOMS])
