"""The shelf of cells: one cell, one file, one line in `SHELF`.

A cell is one step through time, `cell(x, state) -> state`: an `nn.Module` whose equations are plain PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.cells.gru import GRU
    from elman.cells.lstm import LSTM
    from elman.cells.rnn import RNN

SHELF = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}  # the file in this folder, and the cell in it

__all__ = ["GRU", "LSTM", "RNN", "SHELF", "by_name"]


def by_name(name: str) -> Any:
    """The cell class that `--cell name` stands for.

    >>> by_name("lstm").__name__
    'LSTM'
    """
    return getattr(import_module(f"{__name__}.{name}"), SHELF[name])


def __getattr__(name: str) -> Any:
    for file, cell in SHELF.items():
        if cell == name:
            return by_name(file)
    raise AttributeError(f"module 'elman.cells' has no attribute {name!r}")
