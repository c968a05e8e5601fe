"""Parameter initialization."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from elman.cells._cell import Cell

LONGEST = 100  # steps, that memories begin with at most, by "chrono"
Start = Callable[[Cell, str, Tensor], None]  # fills the memory of a cell's parameter of this name


def _torch(cell: Cell, name: str, value: Tensor) -> None:
    cell.init_parameter(name, value)


def _orthogonal(cell: Cell, name: str, value: Tensor) -> None:
    """Saxe et al., arXiv:1312.6120; matrices of the input as Glorot and Bengio's (AISTATS 2010), biases zero."""
    cell.init_parameter(name, value)
    if name.startswith("bias"):
        nn.init.zeros_(value)
    elif name.startswith("weight") and value.dim() > 1:
        of_state = value.shape[-1] == cell.hidden_size and name != "weight_ih"
        for gate in value.data.flatten(0, -2).split(cell.hidden_size):
            wide = gate.to(torch.promote_types(gate.dtype, torch.float32))  # in half precision there is no QR
            gate.copy_(nn.init.orthogonal_(wide) if of_state else nn.init.xavier_uniform_(wide))


def _irnn(cell: Cell, name: str, value: Tensor) -> None:
    """The identity. Le, Jaitly and Hinton, arXiv:1504.00941, where the nonlinearity is relu."""
    if name == "weight_hh" and value.shape != (cell.hidden_size, cell.hidden_size):
        raise ValueError(f"init='irnn': expected a cell with one recurrent matrix, got {type(cell).__name__}")
    if name == "weight_hh":
        nn.init.eye_(value)
    elif name.startswith("bias"):
        nn.init.zeros_(value)
    else:
        nn.init.normal_(value, std=0.001)


def _chrono(cell: Cell, name: str, value: Tensor) -> None:
    """Forget biases of log(u), input biases of -log(u), u from U(1, 99): memories of all lengths to a hundred steps.

    Tallec and Ollivier, arXiv:1804.11188, equation 16, for T_max = LONGEST.
    """
    cell.init_parameter(name, value)
    if name.startswith("bias_") and value.dim() == 1 and len(value) == cell.hidden_size * len(cell.gates):
        nn.init.zeros_(value)
        if name == "bias_ih":
            forget = torch.empty(cell.hidden_size).uniform_(1, LONGEST - 1).log_()
            gate(cell, value, "f").copy_(forget)
            if "i" in cell.gates:
                gate(cell, value, "i").copy_(-forget)


STARTS: dict[str, Start] = {"torch": _torch, "orthogonal": _orthogonal, "irnn": _irnn, "chrono": _chrono}


def gate(cell: Cell, value: Tensor, name: str) -> Tensor:
    """The rows of a parameter that belong to a gate.

    Raises:
        ValueError: if the cell has none of this name.
    """
    if name not in cell.gates:
        gates = ", ".join(cell.gates) or "none"
        raise ValueError(
            f"forget_bias, init='chrono': expected a cell with a gate {name!r}, got {type(cell).__name__} with {gates}"
        )
    H, k = cell.hidden_size, cell.gates.index(name)
    return value.data[k * H : (k + 1) * H]


def init_parameter(cell: Cell, name: str, value: Tensor, init: str, forget_bias: float | None) -> None:
    """Fill a parameter by the scheme `init`; the biases of the forget gate add up to `forget_bias`, if given."""
    STARTS[init](cell, name, value)
    if forget_bias is not None and name in ("bias_ih", "bias_hh"):
        gate(cell, value, "f").fill_(forget_bias if name == "bias_ih" else 0.0)
