"""The shelf of cells: one cell, one file, one line in `SHELF`.

A cell is one step through time, `cell(x, state) -> state`: an `nn.Module` whose equations are plain PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.cells.antisymmetric_rnn import AntisymmetricRNN
    from elman.cells.coupled_lstm import CoupledLSTM
    from elman.cells.gru import GRU
    from elman.cells.ind_rnn import IndRNN
    from elman.cells.layer_norm_gru import LayerNormGRU
    from elman.cells.layer_norm_lstm import LayerNormLSTM
    from elman.cells.lstm import LSTM
    from elman.cells.mgu import MGU
    from elman.cells.min_gru import MinGRU
    from elman.cells.min_lstm import MinLSTM
    from elman.cells.multiplicative_lstm import MultiplicativeLSTM
    from elman.cells.peephole_lstm import PeepholeLSTM
    from elman.cells.projected_lstm import ProjectedLSTM
    from elman.cells.recurrent_highway import RecurrentHighway
    from elman.cells.reset_before_gru import ResetBeforeGRU
    from elman.cells.rnn import RNN
    from elman.cells.slstm import SLSTM

SHELF = {  # the file in this folder, and the cell in it
    "rnn": "RNN",
    "gru": "GRU",
    "lstm": "LSTM",
    "peephole_lstm": "PeepholeLSTM",
    "coupled_lstm": "CoupledLSTM",
    "projected_lstm": "ProjectedLSTM",
    "layer_norm_lstm": "LayerNormLSTM",
    "layer_norm_gru": "LayerNormGRU",
    "reset_before_gru": "ResetBeforeGRU",
    "mgu": "MGU",
    "multiplicative_lstm": "MultiplicativeLSTM",
    "recurrent_highway": "RecurrentHighway",
    "ind_rnn": "IndRNN",
    "antisymmetric_rnn": "AntisymmetricRNN",
    "slstm": "SLSTM",
    "min_gru": "MinGRU",
    "min_lstm": "MinLSTM",
}

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "RNN",
    "SHELF",
    "SLSTM",
    "AntisymmetricRNN",
    "CoupledLSTM",
    "IndRNN",
    "LayerNormGRU",
    "LayerNormLSTM",
    "MinGRU",
    "MinLSTM",
    "MultiplicativeLSTM",
    "PeepholeLSTM",
    "ProjectedLSTM",
    "RecurrentHighway",
    "ResetBeforeGRU",
    "by_name",
]


def by_name(name: str) -> Any:
    """The cell class that `--cell name` stands for.

    >>> by_name("lstm").__name__
    'LSTM'
    """
    if name not in SHELF:
        raise ValueError(f"expected one of {', '.join(SHELF)}, got {name!r}")
    return getattr(import_module(f"{__name__}.{name}"), SHELF[name])


def __getattr__(name: str) -> Any:
    for file, cell in SHELF.items():
        if cell == name:
            return by_name(file)
    raise AttributeError(f"module 'elman.cells' has no attribute {name!r}")
