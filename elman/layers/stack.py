"""`Stack`: several layers of one cell type, in the conventions of torch.nn."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from elman.bptt import Full, Mode
from elman.cells._cell import Cell
from elman.engine import Output, State, as_tuple, known_executor
from elman.layers._cells import Cells
from elman.layers._layer import Lengths
from elman.layers._layer_call import LayerCall
from elman.layers._multilayer_cell import joint_names
from elman.layers._options import (
    check_cell_type,
    check_dropout,
    check_flags,
    check_forget_bias,
    check_init,
    check_probability,
    check_sizes,
    with_layer_norm,
    with_projection,
)
from elman.layers._precision import fused_dtype
from elman.layers._sequence_layout import SequenceLayout
from elman.layers._step import has_hooks
from elman.layers._trajectory import ProbedRun, Trajectory, output_of, probed_runs
from elman.layers._wrappers import ProbedCell


class Stack(Cells):
    """`num_layers` cells of one type, each over the outputs of the one below, in the conventions of torch.nn.

    `RNN`, `GRU` and `LSTM` are this class with the cell filled in.

    Args:
        input_size: D.
        hidden_size: H, of every layer.
        num_layers: L.
        bias: as for the cell.
        batch_first: input and output are (B, T, D) and (B, T, H); states stay (L, B, H).
        dropout: probability, on the outputs of each layer but the last, in training.
        bidirectional: a second cell in each layer reads from the end to the beginning; outputs are side by side, first
            those of the one that reads forward.
        proj_size: P, of the LSTM: h is a projection to this width. 0: none.
        device: of the parameters.
        dtype: of the parameters.
        cell_type: a class of `elman.cells`.
        executor: "auto", or a name in `elman.engine.EXECUTORS`.
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
        the last layer (T, B, H) and the state after the last step, in the shapes of the initial one. With two
        directions, states are (2*L, B, H), layer by layer and forward first, and outputs (T, B, 2*H).

    Raises:
        TypeError: for a size that is no whole number, a flag that is no bool.
        ValueError: for an impossible size or option; in a call, for an input or state of the wrong shape, dtype or
            device.

    >>> from elman import cells
    >>> layer = Stack(3, 5, num_layers=2, cell_type=cells.GRU)
    >>> outputs, h = layer(torch.randn(7, 2, 3))
    >>> outputs.shape, h.shape
    (torch.Size([7, 2, 5]), torch.Size([2, 2, 5]))
    """

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
        flags = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
        check_flags(flags)
        check_sizes({"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers})
        check_dropout(dropout, num_layers, 3 if type(self).__init__ is Stack.__init__ else 4)
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.executor = batch_first, float(dropout), known_executor(executor)
        self.bptt = Full() if bptt is None else bptt
        self._mode(None)
        self.init, self.forget_bias = check_init(init), check_forget_bias(forget_bias, bias)
        self.weight_drop = check_probability("weight_drop", weight_drop)
        self.recurrent_dropout = check_probability("recurrent_dropout", recurrent_dropout)
        self.locked_dropout = check_probability("locked_dropout", locked_dropout)
        self.cell_type = check_cell_type(type(self).__name__, getattr(self, "cell_type", None), cell_type)
        if layer_norm:
            self.cell_type = with_layer_norm(self.cell_type)
        if proj_size:
            self.cell_type, options["proj_size"] = with_projection(self.cell_type, proj_size, hidden_size), proj_size
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._make(zoneout, {"bias": bias, **options}, device, dtype)

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, lengths: Lengths | None = None, bptt: Mode | None = None
    ) -> tuple[Any, Any]:
        """Run the stack over a sequence from the state `hx`.

        Args:
            input: shapes are in the class's docstring; or a PackedSequence of torch's.
            hx: the initial state, or None for zeros.
            lengths: how many steps of each row are real, (B,), in any order, zero among them. The final state is that
                of each row's last real step, its initial one where there is none; outputs behind it are zero. What
                stands there in the input is not read. The work is that of the real steps.
            bptt: how the gradient goes back through time in this call, in the place of the layer's own.

        Returns:
            The outputs and the final state; for a PackedSequence, the outputs are one.

        >>> from elman import cells
        >>> layer = Stack(3, 5, cell_type=cells.GRU)
        >>> outputs, h = layer(torch.randn(7, 2, 3), lengths=[4, 7])
        >>> outputs[4:, 0].abs().max().item()
        0.0
        """
        tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and lengths is None and bptt is None and isinstance(input, Tensor) and input.dim() == 3:
            time = int(self.batch_first)
            if input.shape[time] == 1 and not self.bidirectional and probed_runs(self) is None:
                found = self._prepared(self, input.squeeze(time), hx, time)
                if found is not None:
                    return found
        return self._call(input, hx, lengths, bptt)

    def _compute(
        self, weights: Mapping[str, Tensor], input: Any, state: Any, lengths: Lengths | None, bptt: Mode | None
    ) -> tuple[Any, Any]:
        """What `forward` does, as a function of tensors."""
        x, states, layout = self._begin(weights, input, state, lengths)
        runs, mode = probed_runs(self), self._mode(bptt)
        if runs is not None:
            mode = self._whole(mode)
            self._check_layer_by_layer(mode, x, layout)
        finals: list[tuple[Tensor, ...]] = []
        values: list[dict[str, Tensor]] = []
        if self._joined(mode, x, layout):
            x, finals = self._jointly(weights, x, state, states, layout, mode)
        else:
            steps = self._modules_now.steps if runs is None else self._modules_now.watched
            for k, step in enumerate(steps):
                found = self._layer(weights, k, step, x, states, layout, mode)
                outputs = [output for output, _ in found]
                if runs is not None:
                    values += outputs
                    outputs = [output_of(value) for value in outputs]
                x = _side_by_side(outputs)
                finals += [as_tuple(final) for _, final in found]
        if runs is not None:
            runs.append(ProbedRun(values, layout, single=len(self._widths) == 1, stacked=True))
        one = len(finals) == 1
        pile = [layers[0].unsqueeze(0) if one else torch.stack(layers) for layers in zip(*finals, strict=True)]
        last = tuple(layout.from_engine_state(*pair) for pair in zip(pile, states, strict=True))
        fused = fused_dtype(self.cell_type, next(iter(weights.values())), isinstance(input, PackedSequence))
        if fused is not None:
            x, last = x.to(fused), tuple(of.to(fused) for of in last)
        if mode.online:
            self._carry_out(state, [final for layer in finals for final in layer], last, layout)
        return layout.from_rows(x), last[0] if len(last) == 1 else last

    def trajectory(self, input: Tensor | PackedSequence, hx: Any = None, lengths: Lengths | None = None) -> Trajectory:
        """As a call, with the state after every step and every value that the cell gives a name to: its gates.

        Args:
            input: as in a call.
            hx: as in a call.
            lengths: as in a call; behind the ends all is zero.

        Raises:
            ValueError: as in a call; for several layers with overlapping windows of `Truncated`.

        Returns:
            `outputs`, as of a call; `states`, time before the shape of the state: (T, L, B, H), or a tuple of such;
            `named`, names to values (T, L, B, H). All can be differentiated. In both directions the first axis is the
            step of the input.

        >>> from elman import cells
        >>> found = Stack(3, 5, num_layers=2, cell_type=cells.LSTM).trajectory(torch.randn(7, 4, 3))
        >>> h, c = found.states
        >>> c.shape, sorted(found.named), found.named["f"].shape
        (torch.Size([7, 2, 4, 5]), ['f', 'g', 'i', 'o'], torch.Size([7, 2, 4, 5]))
        """
        return self._call_watched(input, hx, lengths)

    def step(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream, for the next of its inputs.

        Args:
            input: (B, D), or (D,) without a batch.
            hx: the state that the step before has returned, in the shapes of a call; None for zeros.

        Returns:
            The output (B, H), or (H,), and the state, as a call with a sequence of this one step does. Without
            hooks and a `forward` of your own, it takes a shorter way there.

        Raises:
            ValueError: as in a call; with two directions, of which one would have to begin at the end.

        >>> from elman import cells
        >>> layer = Stack(3, 5, cell_type=cells.GRU)
        >>> x, h = torch.randn(7, 2, 3), None
        >>> for x_t in x:
        ...     output, h = layer.step(x_t, h)
        >>> torch.allclose(output, layer(x)[0][-1], atol=1e-6)
        True
        """
        if self.bidirectional:
            raise ValueError(f"{type(self).__name__}: step: expected one direction, got bidirectional=True")
        own = type(self)
        plain = own.forward is FORWARD and own.__call__ is CALL and "forward" not in self.__dict__
        if plain and not has_hooks(self):
            found = self._prepared(self, input, hx)
            if found is not None:
                return found
        return self._call_one_step(input, hx)

    def _begin(
        self, weights: Mapping[str, Tensor], input: Tensor | PackedSequence, hx: Any, lengths: Lengths | None
    ) -> tuple[Tensor, tuple[Tensor, ...], SequenceLayout]:
        like = weights[self._names[0][0][1]]
        return self._enter(input, lengths, self.input_size, like, hx, self._widths, self._state_lead())

    def _check_layer_by_layer(self, mode: Mode, x: Tensor, layout: SequenceLayout) -> None:
        """Whether the layers can be watched, which are run one by one then."""
        if self._joined(mode, x, layout):
            raise ValueError(
                f"{type(self).__name__}: trajectory: bptt: expected Full or Checkpointed, got {mode}, whose windows "
                "all layers would have to share, which are run one by one here"
            )

    def _jointly(
        self,
        weights: Mapping[str, Tensor],
        x: Tensor,
        hx: Any,
        states: tuple[Tensor, ...],
        layout: SequenceLayout,
        mode: Mode,
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Run all layers as one cell: their outputs, and the final states of each."""
        self._check_joint(mode)
        flat = tuple(state[k] for k in range(self.num_layers) for state in states)
        self._carry_in(hx, flat, layout)
        values = [self._values_of(step, k, weights) for k, step in enumerate(self._steps)]
        joint = self._modules_now.joint
        label = partial(LayerCall, self, range(self.num_layers), layout, joint)
        outputs, finals = self._engine(mode, joint, joint_names(values), x, flat, layout, label)
        assert isinstance(outputs, Tensor)
        count = len(states)
        return outputs, [as_tuple(finals)[k : k + count] for k in range(0, len(finals), count)]

    def _layer(
        self,
        weights: Mapping[str, Tensor],
        k: int,
        step: nn.Module,
        x: Tensor,
        states: tuple[Tensor, ...],
        layout: SequenceLayout,
        mode: Mode,
    ) -> list[tuple[Any, State]]:
        """Run layer k, whose cell `step` stands around, over the outputs of the one below, in each direction."""
        if k:
            x = dropout(x, self.dropout, self.training)
        if self.locked_dropout:
            x = x * layout.expand(dropout(x.new_ones(layout.B, x.shape[-1]), self.locked_dropout, self.training))
        found = []
        for i in range(k * self._directions, (k + 1) * self._directions):
            back = i % self._directions == 1
            state: State = states[0][i] if len(states) == 1 else tuple(state[i] for state in states)
            rows = layout.reverse(x) if back else x
            depth = 0 if isinstance(step, ProbedCell) else k  # what is watched has losses of its own at every layer
            values = self._values_of(step, i, weights)
            label = partial(LayerCall, self, (i,), layout, step, back, depth)
            outputs, final = self._engine(mode, step, values, rows, state, layout, label)
            found.append((_reversed(outputs, layout) if back else outputs, final))
        return found


FORWARD, CALL = Stack.forward, nn.Module.__call__  # those that the short way of a step may stand for


def _side_by_side(directions: list[Any]) -> Tensor:
    return directions[0] if len(directions) == 1 else torch.cat(directions, -1)


def _reversed(outputs: Output, layout: SequenceLayout) -> Output:
    if isinstance(outputs, dict):
        return {name: layout.reverse(value) for name, value in outputs.items()}
    return layout.reverse(outputs)
