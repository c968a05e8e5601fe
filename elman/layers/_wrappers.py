"""Cells that wrap other cells: zoneout, recurrent dropout, probes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from elman.cells._cell import Cell
from elman.engine import Output, State, as_tuple
from elman.engine.eager import split_output
from elman.engine.named import changing_names, recording_names

OUTPUT, STATE = "output ", "state "  # prefixes of what `ProbedCell` returns; names of values have no space


class CellWrapper(nn.Module):
    """A cell around another one, whose parameters it has as "cell.NAME"."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell
        for size in ("input_size", "state_size"):
            if hasattr(cell, size):
                setattr(self, size, getattr(cell, size))

    def _get_name(self) -> str:
        return str(self.cell._get_name())


def prefix(step: nn.Module, cell: nn.Module | None = None) -> str:
    """Return the prefix that wrappers put before the names of a cell's parameters.

    Args:
        step: the outermost wrapper.
        cell: the wrapped cell; None: the innermost one.
    """
    path = ""
    while step is not cell and isinstance(step, CellWrapper):
        step, path = step.cell, f"{path}cell."
    return path


class Zoneout(CellWrapper):
    """Zoneout: in training, each unit may keep its old state; in evaluation, the expected value is used.

    Krueger et al., arXiv:1606.01305.

    Args:
        cell: to wrap.
        probabilities: for each of its states.
    """

    def __init__(self, cell: nn.Module, probabilities: Sequence[float]) -> None:
        super().__init__(cell)
        self.probabilities = tuple(probabilities)

    def forward(self, x: Tensor, state: State) -> State:
        """Run one step."""
        new = self.cell(x, state)
        if isinstance(new, Tensor):
            assert isinstance(state, Tensor)
            return self._mix(state, new, self.probabilities[0])
        return tuple(self._mix(*pair) for pair in zip(state, new, self.probabilities, strict=True))

    def _mix(self, old: Tensor, new: Tensor, p: float) -> Tensor:
        if p == 0:
            return new
        if self.training:
            return torch.where(torch.rand_like(old) < p, old, new)
        return p * old + (1 - p) * new

    def _get_name(self) -> str:
        return f"{super()._get_name()} with zoneout"


class RecurrentDropout(CellWrapper):
    """Dropout on a cell's candidate, the values that it would write into its state, so that no memory is erased.

    Semeniuta, Severyn and Barth, arXiv:1603.05118, section 3.3, with a new mask at every step.

    Args:
        cell: to wrap; it has the name of its candidate.
        probability: of each unit to be dropped.

    Raises:
        ValueError: for a cell without a candidate.
    """

    def __init__(self, cell: Cell, probability: float) -> None:
        super().__init__(cell)
        self.probability, self.candidate = probability, cell.candidate
        if not self.candidate:
            raise ValueError(f"recurrent_dropout: expected a cell with a candidate, got {type(cell).__name__}")

    def forward(self, x: Tensor, state: State) -> State:
        """Run one step."""
        with changing_names({self.candidate: self._drop}):
            return self.cell(x, state)  # type: ignore[no-any-return]

    def _drop(self, candidate: Tensor) -> Tensor:
        return dropout(candidate, self.probability, self.training)

    def _get_name(self) -> str:
        return f"{super()._get_name()} with recurrent dropout"


class ProbedCell(CellWrapper):
    """A cell whose output is a dictionary of all that can be seen of a step: output, states, and named values."""

    def forward(self, x: Tensor, state: State) -> tuple[dict[str, Tensor], State]:
        """Run one step."""
        with recording_names() as named:
            output, new = split_output(self.cell, self.cell(x, state), state)
        B = len(as_tuple(new)[0])
        for name, value in named.items():
            if value.shape[:1] != (B,):
                raise ValueError(f"named: {name}: expected shape (B, ...) with B = {B}, got {tuple(value.shape)}")
        states = {f"{STATE}{i}": value for i, value in enumerate(as_tuple(new))}
        return _named_outputs(output, new) | states | named, new


def _named_outputs(output: Output, state: State) -> dict[str, Tensor]:
    """The outputs by name; none if the output is the first state."""
    if isinstance(output, Tensor):
        return {} if output is as_tuple(state)[0] else {OUTPUT: output}
    return {f"{OUTPUT}{name}": value for name, value in output.items()}
