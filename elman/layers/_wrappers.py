"""Cells that wrap other cells: zoneout, recurrent dropout, probes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from elman.cells._cell import Cell
from elman.engine import Output, State, as_tuple
from elman.engine.eager import split_output
from elman.engine.named import changing_names, recording_names

OUTPUT, STATE = "output ", "state "  # before what `ProbedCell` gives, to tell it from what a cell names


class CellWrapper(nn.Module):
    """A cell around another, whose parameters it names "cell." and their name within."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell
        for size in ("input_size", "state_size"):
            if hasattr(cell, size):
                setattr(self, size, getattr(cell, size))

    def _get_name(self) -> str:
        return str(self.cell._get_name())


def prefix(step: nn.Module, cell: nn.Module | None = None) -> str:
    """What stands before the name of a parameter of `cell` in the cells around it, of which `step` is the outermost.

    Without `cell`, of the innermost one.
    """
    found = ""
    while step is not cell and isinstance(step, CellWrapper):
        step, found = step.cell, f"{found}cell."
    return found


class Zoneout(CellWrapper):
    """A cell each of whose units keeps its state with a probability; in evaluation, all take the mean of both.

    Krueger et al., arXiv:1606.01305.

    Args:
        cell: whose states are all new at every step.
        probabilities: for each of its states.
    """

    def __init__(self, cell: nn.Module, probabilities: Sequence[float]) -> None:
        super().__init__(cell)
        self.probabilities = tuple(probabilities)

    def forward(self, x: Tensor, state: State) -> State:
        """One step."""
        new = self.cell(x, state)
        if isinstance(new, Tensor):
            assert isinstance(state, Tensor)
            return self._mixed(state, new, self.probabilities[0])
        return tuple(self._mixed(*pair) for pair in zip(state, new, self.probabilities, strict=True))

    def _mixed(self, old: Tensor, new: Tensor, p: float) -> Tensor:
        if p == 0:
            return new
        if self.training:
            return torch.where(torch.rand_like(old) < p, old, new)
        return p * old + (1 - p) * new

    def _get_name(self) -> str:
        return f"{super()._get_name()} with zoneout"


class RecurrentDropout(CellWrapper):
    """A cell with dropout on its candidate, what it would write into its state: so no memory is ever lost.

    Semeniuta, Severyn and Barth, arXiv:1603.05118, section 3.3, with masks drawn anew at every step.

    Args:
        cell: that names its candidate.
        probability: for each unit.

    Raises:
        ValueError: for a cell without a candidate.
    """

    def __init__(self, cell: Cell, probability: float) -> None:
        super().__init__(cell)
        self.probability, self.candidate = probability, cell.candidate
        if not self.candidate:
            raise ValueError(f"recurrent_dropout: expected a cell with a candidate, got {type(cell).__name__}")

    def forward(self, x: Tensor, state: State) -> State:
        """One step."""
        with changing_names({self.candidate: self._dropped}):
            return self.cell(x, state)  # type: ignore[no-any-return]

    def _dropped(self, candidate: Tensor) -> Tensor:
        return dropout(candidate, self.probability, self.training)

    def _get_name(self) -> str:
        return f"{super()._get_name()} with recurrent dropout"


class ProbedCell(CellWrapper):
    """A cell whose output is all that can be seen of a step: its output, its states, and what it names."""

    def forward(self, x: Tensor, state: State) -> tuple[dict[str, Tensor], State]:
        """One step."""
        with recording_names() as named:
            output, new = split_output(self.cell, self.cell(x, state), state)
        batch = as_tuple(new)[0].shape[0]
        for name, value in named.items():
            if value.shape[:1] != (batch,):
                raise ValueError(f"named: {name}: expected a row for each of the batch, got {tuple(value.shape)}")
        states = {f"{STATE}{i}": value for i, value in enumerate(as_tuple(new))}
        return _named(output, new) | states | named, new


def _named(output: Output, state: State) -> dict[str, Tensor]:
    """What is to be said of an output: nothing of one that is the first state anyway."""
    if isinstance(output, Tensor):
        return {} if output is as_tuple(state)[0] else {OUTPUT: output}
    return {f"{OUTPUT}{name}": value for name, value in output.items()}
