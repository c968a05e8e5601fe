"""The cells: one cell, one file.

A cell is one step through time, `cell(x, state) -> state`: an `nn.Module` whose equations are plain PyTorch. To add
one, add a file to this folder, `my_cell.py` with a class `MyCell`, and a line below for type checkers.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.cells.antisymmetric_rnn import AntisymmetricRNN as AntisymmetricRNN
    from elman.cells.coupled_lstm import CoupledLSTM as CoupledLSTM
    from elman.cells.gru import GRU as GRU
    from elman.cells.ind_rnn import IndRNN as IndRNN
    from elman.cells.layer_norm_gru import LayerNormGRU as LayerNormGRU
    from elman.cells.layer_norm_lstm import LayerNormLSTM as LayerNormLSTM
    from elman.cells.lstm import LSTM as LSTM
    from elman.cells.mgu import MGU as MGU
    from elman.cells.min_gru import MinGRU as MinGRU
    from elman.cells.min_lstm import MinLSTM as MinLSTM
    from elman.cells.multiplicative_lstm import MultiplicativeLSTM as MultiplicativeLSTM
    from elman.cells.peephole_lstm import PeepholeLSTM as PeepholeLSTM
    from elman.cells.projected_lstm import ProjectedLSTM as ProjectedLSTM
    from elman.cells.recurrent_highway import RecurrentHighway as RecurrentHighway
    from elman.cells.reset_before_gru import ResetBeforeGRU as ResetBeforeGRU
    from elman.cells.rnn import RNN as RNN
    from elman.cells.slstm import SLSTM as SLSTM

_FIRST = ("rnn", "gru", "lstm")
_files = {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}

#: names of all cells, as in `--cell`; those of torch.nn first
REGISTRY = (*_FIRST, *sorted(_files.difference(_FIRST)))


def by_name(name: str) -> Any:
    """Return the class of a cell.

    Args:
        name: a name in `REGISTRY`.

    Raises:
        ValueError: for an unknown name.

    >>> by_name("lstm").__name__
    'LSTM'
    """
    if name not in REGISTRY:
        raise ValueError(f"expected one of {', '.join(REGISTRY)}, got {name!r}")
    module = import_module(f"{__name__}.{name}")
    return next(value for key, value in vars(module).items() if key.lower() == name.replace("_", ""))


def __getattr__(name: str) -> Any:
    for file in REGISTRY:
        if file.replace("_", "") == name.lower():
            cell = by_name(file)
            if cell.__name__ == name:
                globals()[name] = cell  # the next access does not call this function
                return cell
    raise AttributeError(f"module 'elman.cells' has no attribute {name!r}")
