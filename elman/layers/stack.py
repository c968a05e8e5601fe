"""Stacks of cells in the conventions of torch.nn."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from elman.bptt import Full, Mode
from elman.cells._cell import Cell
from elman.layers._around import RecurrentDropout, Watched, Zoneout, prefix
from elman.layers._layer import Layer
from elman.layers._options import (
    check_cell_type,
    check_forget_bias,
    check_probability,
    check_start,
    check_torch,
    layer_normed,
    of_each_state,
)
from elman.layers._start import start
from elman.layers._trajectory import Trajectory, output_of, real_steps, trajectory, without_padding
from elman.through_time import State, each, known_executor


class Stack(Layer):
    """`num_layers` cells of one type, each over the outputs of the one below, in the conventions of torch.nn.

    `RNN`, `GRU` and `LSTM` are this class with the cell filled in.

    Args:
        input_size: D.
        hidden_size: H, of every layer.
        num_layers: L.
        bias: as for the cell.
        batch_first: input and output are (B, T, D) and (B, T, H); states stay (L, B, H).
        dropout: probability, on the outputs of each layer but the last, in training.
        bidirectional: not yet; stands here so that torch's order of arguments holds.
        proj_size: not yet, likewise.
        device: of the parameters.
        dtype: of the parameters.
        cell_type: a class of `elman.cells`.
        executor: "auto", or a name in `elman.through_time.EXECUTORS`.
        bptt: how the gradient goes back through time, one of `elman.bptt`; the layer's attribute of this name, which
            can be set at any time. None: all the way.
        init: how the parameters begin: "torch" as in torch.nn, or as the cell says; "orthogonal"; "irnn", the identity
            (for relu); "chrono", forget gates for memories of up to a hundred steps.
        forget_bias: what the biases of a forget gate add up to at first.
        zoneout: probability that a unit keeps its state, in training; or one for each state (the LSTM's h and c). In
            evaluation a unit takes the mean of both.
        weight_drop: probability, for each entry of the recurrent matrices, to be zero through a whole sequence.
        recurrent_dropout: probability, for each unit of a cell's candidate (the LSTM's g, the GRU's n), drawn anew at
            every step, in training.
        locked_dropout: probability, on the input of every layer, with one mask for all steps of a sequence, in
            training: variational dropout.
        layer_norm: of LSTM and GRU, the cells with layer normalization.
        options: of the cell.

    Shapes:
        input (T, B, D), or (T, D) without a batch. Initial state: one tensor (L, B, H), or a tuple where the cell has
        several states (the LSTM's h and c), or None for zeros; as wide as the cell's states are. Returns the outputs of
        the last layer (T, B, H) and the state after the last step, in the shapes of the initial one.

    Raises:
        ValueError: for an impossible size or option; in a call, for an input or state of the wrong shape, dtype or
            device.
        NotImplementedError: for bidirectional or proj_size.

    >>> from elman import cells
    >>> layer = Stack(3, 5, num_layers=2, cell_type=cells.GRU)
    >>> outputs, h = layer(torch.randn(7, 2, 3))
    >>> outputs.shape, h.shape
    (torch.Size([7, 2, 5]), torch.Size([2, 2, 5]))
    """

    cell_type: type[Cell]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        cell_type: type[Cell] | None = None,
        executor: str = "auto",
        bptt: Mode | None = None,
        init: str = "torch",
        forget_bias: float | None = None,
        zoneout: float | Sequence[float] = 0.0,
        weight_drop: float = 0.0,
        recurrent_dropout: float = 0.0,
        locked_dropout: float = 0.0,
        layer_norm: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        check_torch(num_layers, dropout, bidirectional, proj_size, 3 if type(self).__init__ is Stack.__init__ else 4)
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.executor = batch_first, float(dropout), known_executor(executor)
        self.bptt = Full() if bptt is None else bptt
        self.init, self.forget_bias = check_start(init), check_forget_bias(forget_bias, bias)
        self.weight_drop = check_probability("weight_drop", weight_drop)
        self.recurrent_dropout = check_probability("recurrent_dropout", recurrent_dropout)
        self.locked_dropout = check_probability("locked_dropout", locked_dropout)
        self.cell_type = check_cell_type(type(self).__name__, getattr(self, "cell_type", None), cell_type)
        if layer_norm:
            self.cell_type = layer_normed(self.cell_type)
        self._cells = self._of_type({"bias": bias, **options})
        self._widths = each(self._cells[0].state_size)
        self.zoneout = of_each_state(zoneout, self._cells[0].states)
        self._steps = tuple(self._around(cell) for cell in self._cells)
        self._watched = tuple(Watched(step) for step in self._steps)
        self._names = self._register(device, dtype)
        self.reset_parameters()

    def _of_type(self, options: dict[str, Any]) -> tuple[Cell, ...]:
        # The cells are equations without values (meta), kept out of the module tree by the tuple: the parameters
        # live here, flat and under the names that torch.nn gives them.
        first = self.cell_type(self.input_size, self.hidden_size, device="meta", **options)
        width = each(first.state_size)[0]
        above = [self.cell_type(width, self.hidden_size, device="meta", **options) for _ in range(self.num_layers - 1)]
        return (first, *above)

    def _register(
        self, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> tuple[tuple[tuple[str, str], ...], ...]:
        """Make every parameter; of each layer, the names that its cell has for them and those that they have here."""
        names = []
        for k, cell in enumerate(self._cells):
            for name, parameter in cell.named_parameters():
                value = torch.empty(parameter.shape, device=device, dtype=dtype)
                self.register_parameter(f"{name}_l{k}", nn.Parameter(value))
            names.append(tuple((name, f"{name}_l{k}") for name, _ in cell.named_parameters()))
        return tuple(names)

    def _around(self, cell: Cell) -> nn.Module:
        """A cell with what the options put around it."""
        step: nn.Module = RecurrentDropout(cell, self.recurrent_dropout) if self.recurrent_dropout else cell
        return Zoneout(step, self.zoneout) if any(self.zoneout) else step

    @property
    def output_size(self) -> int:
        """How wide the outputs are: H, but where the cell projects."""
        return self._widths[0]

    def reset_parameters(self) -> None:
        """Fill every parameter as its cell says; those of RNN, GRU and LSTM, with one seed, as torch.nn does."""
        for cell, names in zip(self._cells, self._names, strict=True):
            for name, full in names:
                start(cell, name, getattr(self, full), self.init, self.forget_bias)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Run the stack over a sequence from the state `hx`; shapes are in the class's docstring."""
        x, states = self._begin(input, hx)
        finals = []
        for k, step in enumerate(self._steps):
            x, final = self._run(step, k, x, states)
            finals.append(each(final))
        one = len(finals) == 1
        pile = [layers[0].unsqueeze(0) if one else torch.stack(layers) for layers in zip(*finals, strict=True)]
        outputs, last = self._leave(input, x, tuple(pile))
        return outputs, last[0] if len(last) == 1 else last

    def trajectory(self, input: Tensor, hx: Any = None, lengths: Tensor | Sequence[int] | None = None) -> Trajectory:
        """As a call, with the state after every step and every value that the cell gives a name to: its gates.

        Args:
            input: as in a call.
            hx: as in a call.
            lengths: how many steps of each row are real, (B,); behind them all is zero. None: all steps.

        Returns:
            `outputs`, as of a call; `states`, time before the shape of the state: (T, L, B, H), or a tuple of such;
            `named`, names to values (T, L, B, H). All can be differentiated.

        >>> from elman import cells
        >>> found = Stack(3, 5, num_layers=2, cell_type=cells.LSTM).trajectory(torch.randn(7, 4, 3))
        >>> h, c = found.states
        >>> c.shape, sorted(found.named), found.named["f"].shape
        (torch.Size([7, 2, 4, 5]), ['f', 'g', 'i', 'o'], torch.Size([7, 2, 4, 5]))
        """
        x, states = self._begin(input, hx)
        real = real_steps(type(self).__name__, lengths, x)
        x, layers = without_padding(x, real), []
        for k, step in enumerate(self._watched):
            values, _ = self._run(step, k, x, states)
            layers.append(values)
            x = output_of(values)  # type: ignore[assignment]
        single = self._cells[0].states == 1
        found = trajectory(layers, real, single=single, stacked=True, batched=input.dim() == 3)
        return found._replace(outputs=self._leave(input, found.outputs, ())[0])

    def _begin(self, input: Tensor, hx: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        like = getattr(self, self._names[0][0][1])
        return self._enter(input, self.input_size, like, hx, self._widths, (self.num_layers,))

    def _run(self, step: nn.Module, k: int, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Any, State]:
        """Run layer k, whose cell `step` stands around, over the outputs of the one below."""
        if k:
            x = dropout(x, self.dropout, self.training)
        if self.locked_dropout:
            x = x * dropout(x.new_ones(1, *x.shape[1:]), self.locked_dropout, self.training)
        values = self._values_of(step, k)
        state: State = states[0][k] if len(states) == 1 else tuple(state[k] for state in states)
        return self._through_time(step, values, x, state)

    def _values_of(self, step: nn.Module, layer: int) -> dict[str, Tensor]:
        """The parameters of a layer, by the names that `step`, its cell or one around it, has for them."""
        found, around = {}, prefix(step, self._cells[layer])
        for name, full in self._names[layer]:
            value = getattr(self, full)
            if self.weight_drop and name.startswith("weight_h") and value.dim() > 1:
                value = dropout(value, self.weight_drop, self.training)
            found[around + name] = value
        return found

    def train(self, mode: bool = True) -> "Stack":
        """As every module; the cells follow."""
        for step in self._watched:
            step.train(mode)
        return super().train(mode)

    def extra_repr(self) -> str:
        """As torch.nn prints its own."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {
            "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "init": "torch", "forget_bias": None,
            "weight_drop": 0.0, "recurrent_dropout": 0.0, "locked_dropout": 0.0,
        }  # fmt: skip
        parts += [f"{key}={getattr(self, key)}" for key, value in defaults.items() if getattr(self, key) != value]
        parts += [f"zoneout={self.zoneout}"] if any(self.zoneout) else []
        parts += (
            [f"cell_type={self.cell_type.__name__}"]
            if self.cell_type is not type(self).__dict__.get("cell_type")
            else []
        )
        return ", ".join(parts)
