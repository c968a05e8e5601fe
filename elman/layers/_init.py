"""Parameter initialization."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from elman.cells._cell import Cell

MAX_MEMORY = 100  # steps, T_max of "chrono"
InitScheme = Callable[[Cell, str, Tensor], None]  # fills the value of a cell's parameter of this name


def _torch(cell: Cell, name: str, value: Tensor) -> None:
    cell.init_parameter(name, value)


def _orthogonal(cell: Cell, name: str, value: Tensor) -> None:
    """Orthogonal recurrent matrices (Saxe et al., arXiv:1312.6120), Xavier-uniform input matrices, zero biases.

    Xavier: Glorot and Bengio, AISTATS 2010. Each gate has a matrix of its own.
    """
    cell.init_parameter(name, value)
    if name.startswith("bias"):
        nn.init.zeros_(value)
    elif name.startswith("weight") and value.dim() > 1:
        is_recurrent = value.shape[-1] == cell.hidden_size and name != "weight_ih"
        for matrix in value.data.flatten(0, -2).split(cell.hidden_size):
            # orthogonal_ is a QR decomposition, which torch does not have in half precision.
            wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
            matrix.copy_(nn.init.orthogonal_(wide) if is_recurrent else nn.init.xavier_uniform_(wide))


def _irnn(cell: Cell, name: str, value: Tensor) -> None:
    """Identity recurrent matrix. Le, Jaitly and Hinton, arXiv:1504.00941, who use it with relu."""
    if name == "weight_hh" and value.shape != (cell.hidden_size, cell.hidden_size):
        raise ValueError(f"init='irnn': expected a cell with one recurrent matrix, got {type(cell).__name__}")
    if name == "weight_hh":
        nn.init.eye_(value)
    elif name.startswith("bias"):
        nn.init.zeros_(value)
    else:
        nn.init.normal_(value, std=0.001)


def _chrono(cell: Cell, name: str, value: Tensor) -> None:
    """Forget biases of log(u), input biases of -log(u), u from U(1, 99): memories of all lengths up to 100 steps.

    Tallec and Ollivier, arXiv:1804.11188, equation 16, for T_max = MAX_MEMORY.
    """
    cell.init_parameter(name, value)
    if name.startswith("bias_") and value.dim() == 1 and len(value) == cell.hidden_size * len(cell.gates):
        nn.init.zeros_(value)
        if name == "bias_ih":
            forget = torch.empty(cell.hidden_size).uniform_(1, MAX_MEMORY - 1).log_()
            _gate_rows(cell, value, "f").copy_(forget)
            if "i" in cell.gates:
                _gate_rows(cell, value, "i").copy_(-forget)


INIT_SCHEMES: dict[str, InitScheme] = {"torch": _torch, "orthogonal": _orthogonal, "irnn": _irnn, "chrono": _chrono}


def _gate_rows(cell: Cell, value: Tensor, name: str) -> Tensor:
    """Return the rows of a parameter that belong to a gate, a view.

    Raises:
        ValueError: if the cell has no gate of this name.
    """
    if name not in cell.gates:
        gates = ", ".join(cell.gates) or "none"
        raise ValueError(
            f"forget_bias, init='chrono': expected a cell with a gate {name!r}, got {type(cell).__name__} with {gates}"
        )
    H, k = cell.hidden_size, cell.gates.index(name)
    return value.data[k * H : (k + 1) * H]


def init_parameter(cell: Cell, name: str, value: Tensor, init: str, forget_bias: float | None) -> None:
    """Fill a parameter by the scheme `init`; the two biases of the forget gate add up to `forget_bias`, if given."""
    INIT_SCHEMES[init](cell, name, value)
    if forget_bias is not None and name in ("bias_ih", "bias_hh"):
        _gate_rows(cell, value, "f").fill_(forget_bias if name == "bias_ih" else 0.0)
