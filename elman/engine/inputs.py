"""The arguments of a call of the engine, as records."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from elman.engine.outputs import State, as_tuple

StateSize = int | tuple[int, ...]


def split_by_step(values: Tensor, sizes: Tensor | None) -> Sequence[Tensor]:
    """Split values of all rows, (T, B, ...) or packed (N, ...) with `sizes`, into those of each step."""
    return values.unbind(0) if sizes is None else values.split(sizes.tolist())


class Inputs(NamedTuple):
    """One call of the engine.

    Attributes:
        cell: `cell(x_t, state)` for one step, which returns the state, or (output, state) with a tensor (B, ...) or a
            dictionary of tensors as output.
        parameters: values of the cell's parameters and buffers by name, in place of its own.
        x: (T, B, D) with T >= 1; or, with `sizes`, (N, D): sequences of several lengths, packed.
        state: at t = 0, in the form the cell takes: a tensor (B, H) or a tuple of tensors.
        sizes: of packed sequences, (T,), on the CPU: how many of them have a step t, as `batch_sizes` of torch's
            PackedSequence. The longest come first, and x has the rows of step 0, then those of step 1, and so on, N in
            all; sizes[0], which is at least 1, may be less than B, for sequences without a step.

    >>> import torch
    >>> cell = nn.GRUCell(3, 5)
    >>> inputs = Inputs(cell, dict(cell.named_parameters()), torch.randn(7, 2, 3), torch.zeros(2, 5))
    >>> inputs.steps, inputs.first(4).x.shape, inputs.spec().state_size
    (7, torch.Size([4, 2, 3]), 5)
    """

    cell: nn.Module
    parameters: Mapping[str, Tensor]
    x: Tensor
    state: State
    sizes: Tensor | None = None

    @property
    def states(self) -> tuple[Tensor, ...]:
        """The states as a tuple, one or several."""
        return as_tuple(self.state)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.x) if self.sizes is None else len(self.sizes)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """x, the states and the parameters."""
        return (self.x, *self.states, *self.parameters.values())

    def first(self, steps: int) -> "Inputs":
        """Return the same call over the first `steps` steps alone."""
        if self.sizes is None:
            return self._replace(x=self.x[:steps])
        sizes = self.sizes[:steps]
        return self._replace(x=self.x[: int(sizes.sum())], sizes=sizes)

    def spec(self) -> "CellSpec":
        """Return the cell and the sizes of this call."""
        widths = tuple(state.shape[1] for state in self.states)
        return CellSpec(
            self.cell, self.parameters, self.x.shape[-1], widths[0] if isinstance(self.state, Tensor) else widths
        )


class CellSpec(NamedTuple):
    """A cell and the sizes it is called with, without a sequence.

    Attributes:
        cell: as in `Inputs`.
        parameters: as in `Inputs`.
        input_size: D.
        state_size: H, or the width of each state in a tuple.

    >>> cell = nn.LSTMCell(3, 5)
    >>> CellSpec(cell, dict(cell.named_parameters()), input_size=3, state_size=(5, 5)).state_size
    (5, 5)
    """

    cell: nn.Module
    parameters: Mapping[str, Tensor]
    input_size: int
    state_size: StateSize
