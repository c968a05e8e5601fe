"""A layer from any cell."""

from torch import Tensor, nn

from elman.layers._layer import Layer
from elman.through_time import State, known_executor, run


class Recurrent(Layer):
    """Any cell over time.

    Args:
        cell: a module with `cell(x, state) -> state` for one step, x (B, D); the state is a tensor (B, H) or a tuple
            of tensors, and its first is the output. `torch.nn.LSTMCell`, `GRUCell` and `RNNCell` are such cells.
        state_size: the width of the state, or a tuple of widths; where the cell does not tell it (by an attribute
            `state_size`) and no initial state is given in the call.
        batch_first: input and output are (B, T, D) and (B, T, H).
        executor: "auto", or a name in `elman.through_time.EXECUTORS`.

    Shapes:
        input (T, B, D), or (T, D) without a batch; the state in the cell's own form, (B, H) or a tuple of them, or
        (H) without a batch. Returns the first state of every step (T, B, H) and the state after the last.

    Raises:
        TypeError: if zeros are asked for and the size of the state is not known.
        ValueError: in a call, for an input or state of the wrong shape; of the wrong dtype or device, where the cell
            tells its input_size.

    >>> import torch
    >>> layer = Recurrent(nn.LSTMCell(3, 5))
    >>> outputs, (h, c) = layer(torch.randn(7, 2, 3))
    >>> outputs.shape, h.shape
    (torch.Size([7, 2, 5]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        cell: nn.Module,
        state_size: int | tuple[int, ...] | None = None,
        batch_first: bool = False,
        executor: str = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(cell, nn.Module):
            raise TypeError(f"Recurrent: cell: expected a torch.nn.Module, got {type(cell).__name__}")
        self.cell, self.batch_first, self.executor = cell, batch_first, known_executor(executor)
        self.state_size = _state_size(cell) if state_size is None else state_size

    def forward(self, input: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run the cell over a sequence from `state`; shapes are in the class's docstring."""
        sizes = self.state_size
        if sizes is None:
            if state is None:
                raise TypeError(
                    f"Recurrent: state_size: the size of {type(self.cell).__name__}'s state is not known; give "
                    "state_size= to Recurrent, or an initial state in the call"
                )
            sizes = state.shape[-1] if isinstance(state, Tensor) else tuple(s.shape[-1] for s in _tensors(state))
        single = isinstance(sizes, int)
        widths = (sizes,) if isinstance(sizes, int) else sizes
        values = dict(self.cell.named_parameters()) | dict(self.cell.named_buffers())
        # A cell that tells no size may read anything: numbers of tokens, say.
        reads = getattr(self.cell, "input_size", None)
        like = None if reads is None else next(iter(values.values()), None)
        x, states = self._enter(input, reads, like, state, widths)
        outputs, final = run(self.cell, values, x, states[0] if single else states, self.executor)
        outputs, last = self._leave(input, outputs, (final,) if isinstance(final, Tensor) else final)
        return outputs, last[0] if single else last


def _tensors(state: object) -> tuple[Tensor, ...]:
    if not isinstance(state, tuple | list) or not all(isinstance(s, Tensor) for s in state):
        raise TypeError(f"Recurrent: state: expected a tensor or a tuple of tensors, got {state!r:.60}")
    return tuple(state)


def _state_size(cell: nn.Module) -> int | tuple[int, ...] | None:
    if isinstance(cell, nn.LSTMCell):
        return (cell.hidden_size, cell.hidden_size)
    if isinstance(cell, nn.GRUCell | nn.RNNCell):
        return cell.hidden_size
    size: int | tuple[int, ...] | None = getattr(cell, "state_size", None)
    return size
