"""`Recurrent`: a layer from any cell."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence
from typing_extensions import override

from elman.bptt import Full, Mode
from elman.cells._cell import Cell
from elman.engine import CellSpec, State, as_tuple, known_executor
from elman.engine.module_state import outside_tensors, step_state
from elman.engine.torch_private import tree_leaves, tree_map, tree_structure
from elman.layers._cell_runs import CellRun
from elman.layers._layer import Layer, Lengths, lengths_hint, output_in
from elman.layers._layer_call import CallNames, LayerCall, state_names
from elman.layers._prepared_calls import FIRST, Cells, LayerInputs
from elman.layers._sequence_layout import SequenceLayout
from elman.layers._state_structure import (
    StructuredStateCell,
    infer_state_size,
    is_flat,
    structure_of,
    unflatten_state,
)
from elman.layers._trajectory import ProbedRun, Trajectory, output_of, probed_runs
from elman.layers._wrappers import ProbedCell, prefix

KIND = attrgetter("shape", "dtype", "layout")
CELL = "cell."  # prefix of the names of the cell's parameters and buffers


class Recurrent(Layer):
    """Any cell over time.

    Args:
        cell: a module, or a function, for one step: `cell(x, state) -> state` or `-> (output, state)`, with x (B, D).
            The state is a tensor (B, H) or a tuple of tensors of any widths; without an output, its first tensor is
            the output. It may also be a NamedTuple, nested tuples or a dictionary, and is returned as such. Each row
            of the result may depend on that row of the batch alone. `torch.nn.LSTMCell`, `GRUCell` and `RNNCell` are
            such cells.
        state_size: the width of the state, or widths in the structure of the state. Needed if the cell has neither an
            attribute `state_size` nor `hidden_size` (the width of one state, or of two if a step takes and returns a
            pair), and calls pass no initial state.
        batch_first: input and output are (B, T, D) and (B, T, H).
        executor: "auto", "native", "torch", "triton" or "loop"; `elman env` lists those that are available.
        bptt: the gradient mode, one of `elman.bptt`; an attribute that can be set at any time. None: `Full()`,
            backpropagation through all steps.
        learn_state: learn the initial state, which calls without one begin from; parameters `initial_state.0` and so
            on, initialized with zeros.
        parameters: of a function, by name; it is called as `cell(x, state, **parameters)`.

    Shapes:
        input (T, B, D), or (T, D) without a batch; the state in the cell's own structure, (B, H) or a tuple of them,
        or (H,) without a batch. Returns the output of every step (T, B, H) and the state after the last. If the cell's
        output is a dictionary of tensors (B, ...), a dictionary of (T, B, ...) is returned.

    Raises:
        TypeError: if `cell` is not a cell, or `parameters` are passed with a module; in a call, if the size of the
            state is not known, or the cell returns no state.
        ValueError: in a call, for an input or state of the wrong shape; of the wrong dtype or device, if the cell has
            an attribute `input_size`.

    >>> import torch
    >>> layer = Recurrent(nn.LSTMCell(3, 5))
    >>> outputs, (h, c) = layer(torch.randn(7, 2, 3))
    >>> outputs.shape, h.shape
    (torch.Size([7, 2, 5]), torch.Size([2, 5]))

    A moving average, whose only parameter is its decay:

    >>> def average(x, h, a):
    ...     return a.sigmoid() * h + (1 - a.sigmoid()) * x
    >>> layer = Recurrent(average, state_size=3, parameters={"a": torch.zeros(3)})
    >>> layer(torch.ones(2, 1, 3))[0][:, 0, 0].tolist()
    [0.5, 0.75]
    """

    def __init__(
        self,
        cell: nn.Module | Callable[..., Any],
        state_size: Any = None,
        batch_first: bool = False,
        executor: str = "auto",
        bptt: Mode | None = None,
        learn_state: bool = False,
        parameters: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.cell, self.batch_first, self.executor = _cell(cell, parameters), batch_first, known_executor(executor)
        self.bptt = Full() if bptt is None else bptt
        self._mode(None)
        self._lazy = any(map(is_lazy, chain(self.cell.parameters(), self.cell.buffers())))
        self.state_size: Any = self._known_size() if state_size is None else state_size
        # In tuples, out of the module tree: their parameters are those of the cell.
        self._structured: tuple[StructuredStateCell] | None = None
        self._probed = (ProbedCell(self.cell),)
        self.initial_state = self._make_initial_state() if learn_state else None

    def _make_initial_state(self) -> nn.ParameterList:
        if self.state_size is None:
            raise TypeError("Recurrent: state_size: expected a size with learn_state=True, since the cell defines none")
        like = next((value for value in self.cell.parameters() if not is_lazy(value)), torch.empty(0))
        return nn.ParameterList(nn.Parameter(like.new_zeros(size)) for size in tree_leaves(self.state_size))

    def _known_size(self) -> Any:
        """The size of the state, if it can be known without a call."""
        size, width = _state_size(self.cell), getattr(self.cell, "input_size", None)
        if size is not None or not isinstance(width, int) or self._lazy:
            return size
        like = next(chain(self.cell.parameters(), self.cell.buffers()), torch.empty(0))
        return infer_state_size(self.cell, like.new_zeros(1, width))[0]

    def _materialize(self, input: Any, state: Any, lengths: Lengths | None) -> None:
        """Run one step, in which lazy modules infer the shapes of their parameters."""
        layout = self._layout(input, lengths, None)
        rows = layout.to_rows(input).detach()
        x = rows[0] if layout.sizes is None else rows[: int(layout.sizes[0])]
        if state is not None:
            states = tree_map(lambda part: layout.to_engine_state(part)[: len(x)], state)
        else:
            size = self.state_size if self.state_size is not None else getattr(self.cell, "hidden_size", None)
            states = tree_map(lambda width: x.new_zeros(len(x), width), size)
        try:
            with torch.no_grad():
                self.cell(x, states)
        finally:
            self._lazy = any(map(is_lazy, chain(self.cell.parameters(), self.cell.buffers())))
        if self._lazy:
            raise RuntimeError(
                f"Recurrent: cell: expected lazy parameters that one step initializes, got {self.cell._get_name()} "
                "with parameters that are still uninitialized; call the cell with an example first"
            )

    def forward(
        self,
        input: Tensor | PackedSequence,
        state: State | None = None,
        lengths: Lengths | None = None,
        bptt: Mode | None = None,
    ) -> tuple[Any, State]:
        """Run the cell over a sequence from `state`.

        Args:
            input: shapes are in the class's docstring; or a PackedSequence of torch's.
            state: the initial state, or None.
            lengths: the number of steps of each row, (B,), in any order; zero is allowed. The final state is that after
                each row's last step, or its initial state if it has none; outputs behind it are zero. Padding in the
                input is not read, and takes no time.
            bptt: the gradient mode of this call, in place of the layer's own.

        Returns:
            The outputs and the final state; for a PackedSequence, each output is one.
        """
        if self._lazy:
            self._materialize(input, state, lengths)
        return self._call(input, state, lengths, bptt)

    @override
    def _compute(
        self, weights: Mapping[str, Tensor], input: Any, state: Any, lengths: Lengths | None, bptt: Mode | None
    ) -> tuple[Any, State]:
        structure = structure_of(self.state_size if state is None else state)
        state = state if structure is None or state is None else tuple(tree_leaves(state))
        x, states, single, layout = self._prepare(weights, input, state, lengths)
        runs, mode = probed_runs(self), self._mode(bptt)
        if runs is not None:
            mode = self._offline(mode)
        if mode.online:
            self._carry_in(state, states, layout)
        cell = self.cell if structure is None else self._structured_cell(structure)
        step = cell if runs is None else self._probed_cell(cell)
        outputs, final = self._run(weights, step, x, states, single, layout, mode)
        if runs is not None:
            runs.append(ProbedRun([outputs], layout, single=single, stacked=False))
            outputs = output_of(outputs)
        last = tuple(layout.from_engine_state(*pair) for pair in zip(as_tuple(final), states, strict=True))
        if mode.online:
            self._carry_out(state, as_tuple(final), last, layout)
        state = unflatten_state(structure, last) if structure is not None else last[0] if single else last
        return output_in(layout, outputs), state

    def trajectory(
        self, input: Tensor | PackedSequence, state: State | None = None, lengths: Lengths | None = None
    ) -> Trajectory:
        """Run the cell and return the state after every step and every named value (`elman.named`).

        Args:
            input: as in a call.
            state: as in a call.
            lengths: as in a call; all values behind the end of a sequence are zero.

        Returns:
            `outputs`, as of a call; `states`, (T, B, H) or a tuple of such; `named`, names to values (T, B, ...). All
            can be differentiated.

        >>> trajectory = Recurrent(nn.LSTMCell(3, 5)).trajectory(torch.randn(7, 2, 3))
        >>> h, c = trajectory.states
        >>> h.shape, c[4].shape
        (torch.Size([7, 2, 5]), torch.Size([2, 5]))
        """
        return self._call_probed(input, state, lengths)

    def _probed_cell(self, cell: nn.Module) -> ProbedCell:
        if self._probed[0].cell is not cell:
            self._probed = (ProbedCell(cell),)
        return self._probed[0]

    def _structured_cell(self, structure: Any) -> StructuredStateCell:
        cell = self._structured and self._structured[0]
        if (
            not cell
            or cell.cell is not self.cell
            or cell.structure != structure
            or tree_structure(cell.structure) != tree_structure(structure)
        ):
            cell = StructuredStateCell(self.cell, structure)
            self._structured = (cell,)
        return cell

    def step(self, input: Tensor, state: State | None = None) -> tuple[Any, State]:
        """Run one step of a stream.

        Args:
            input: (B, D), or (D,) without a batch.
            state: the state that the last step returned; None at the beginning.

        Returns:
            The output (B, H), or (H,), and the state, as a call with a sequence of this one step does.

        >>> layer = Recurrent(nn.GRUCell(3, 5))
        >>> output, h = layer.step(torch.randn(2, 3))
        >>> output, h = layer.step(torch.randn(2, 3), h)
        """
        return self._call_one_step(FORWARD, input, state)

    @override
    def _weights(self) -> dict[str, Tensor]:
        named = chain(self.cell.named_parameters(), self.cell.named_buffers())
        initial = enumerate(() if self.initial_state is None else self.initial_state)
        return {CELL + name: value for name, value in named} | {f"initial_state.{i}": value for i, value in initial}

    @override
    def _reads_outside_tensors(self) -> bool:
        return any(tensor.requires_grad for tensor, _ in outside_tensors(self.cell))

    @override
    def _weights_decide_outputs(self) -> bool:
        # Of other cells, an attribute may decide what they return.
        return isinstance(self.cell, Cell | nn.RNNCellBase)

    def _prepare(
        self,
        weights: Mapping[str, Tensor],
        input: Tensor | PackedSequence,
        state: State | None,
        lengths: Lengths | None,
    ) -> tuple[Tensor, tuple[Tensor, ...], bool, SequenceLayout]:
        """The input and the states (B, H) in the engine's layout, whether the state is one tensor, and the layout."""
        if self.state_size is None and state is None:
            values = input.data if isinstance(input, PackedSequence) else input
            size, reason = None, ""
            if isinstance(values, Tensor) and values.dim():
                size, reason = infer_state_size(self.cell, values, self._layout(input, lengths, None).B)
            if size is None:
                raise TypeError(
                    f"Recurrent: state_size: expected the size of the state, which {self.cell._get_name()} does not "
                    f"define; pass state_size= to Recurrent, or an initial state in the call{reason}"
                )
            self.state_size = size
        sizes = self._flat_size(state)
        single = isinstance(sizes, int)
        # A cell without an input_size may read anything: token ids, say.
        input_size = getattr(self.cell, "input_size", None)
        cell_weights = (value for name, value in weights.items() if name.startswith(CELL))
        like = None if input_size is None else next(cell_weights, None)
        x, states, layout = self._prepare_inputs(input, lengths, input_size, like, state, as_tuple(sizes))
        if state is None and self.initial_state is not None:
            states = tuple(weights[f"initial_state.{i}"].expand(layout.B, -1) for i in range(len(states)))
        return x, states, single, layout

    def _flat_size(self, state: Any) -> int | tuple[int, ...]:
        """The size of the state, or of each of its leaves."""
        size = self.state_size
        if size is None:
            return state.shape[-1] if isinstance(state, Tensor) else tuple(s.shape[-1] for s in _tensors(state))
        return size if isinstance(size, int) else tuple(size if is_flat(size) else tree_leaves(size))

    @override
    def _layer_inputs(self, x: Tensor, state: Any) -> LayerInputs | None:
        D, cell, structure = x.shape[-1], self.cell, structure_of(self.state_size if state is None else state)
        if self._lazy or (state is None and (self.state_size is None or self.initial_state is not None)):
            return None
        if getattr(cell, "input_size", D) not in (D, None):
            return None
        path = ""
        if structure is not None:
            cell = self._structured_cell(structure)
            path = prefix(cell, self.cell)
        step = step_state(cell)
        if step is None:
            return None
        leaves = state if structure is None else tuple(tree_leaves(state))
        size = self._flat_size(leaves)
        states = [x.new_zeros(x.shape[-2], width) for width in as_tuple(size)] if state is None else as_tuple(leaves)
        fingerprint, names, parameters = step
        if structure is not None:
            as_state: Callable[[list[Tensor]], Any] = partial(unflatten_state, structure)
        else:
            as_state = FIRST if isinstance(size, int) else tuple
        key = (ref(cell), fingerprint, D, size, names, *map(KIND, parameters))
        return Cells(key, [((len(states), path), cell)], as_state), parameters, states

    @override
    def _cell_specs(self, cells: Cells, parameters: Sequence[Tensor]) -> list[CellSpec]:
        _, _, D, size, names, *_ = cells.key
        return [CellSpec(cells.calls[0][1], dict(zip(names, parameters, strict=True)), D, size)]

    @override
    def _cell_runs(self, input_size: int | None = None) -> list[CellRun]:
        structure = structure_of(self.state_size)
        D = getattr(self.cell, "input_size", input_size)
        assert isinstance(D, int)
        cell = self.cell if structure is None else self._structured_cell(structure)
        weights, path, size = self._weights(), prefix(cell, self.cell), self._flat_size(None)
        parameters = {path + name.removeprefix(CELL): value for name, value in weights.items() if name.startswith(CELL)}
        return [CellRun(CellSpec(cell, parameters, D, size), state_names(self.cell, len(as_tuple(size))))]

    def _run(
        self,
        weights: Mapping[str, Tensor],
        step: nn.Module,
        x: Tensor,
        states: tuple[Tensor, ...],
        single: bool,
        layout: SequenceLayout,
        mode: Mode,
    ) -> tuple[Any, State]:
        """Run the cell, or a wrapper of it."""
        path = prefix(step, self.cell)
        parameters = {path + name.removeprefix(CELL): value for name, value in weights.items() if name.startswith(CELL)}
        state: State = states[0] if single else states
        label = partial(LayerCall, self, (len(states), path), layout, step)
        return self._engine(mode, step, parameters, x, state, layout, label)

    @override
    def _names_of(self, key: tuple[int, str]) -> CallNames:
        # The key of a call is the number of states and the prefix of parameter names in wrappers.
        num_states, path = key
        return CallNames(state_names(self.cell, num_states), lambda name: f"cell.{name.removeprefix(path)}")


FORWARD = Recurrent.forward  # as in `Stack`


class _Function(nn.Module):
    """A function as a cell, and its parameters."""

    def __init__(self, function: Callable[..., Any], parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            self.register_parameter(name, value if isinstance(value, nn.Parameter) else nn.Parameter(value))

    def forward(self, x: Tensor, state: State) -> Any:
        return self.function(x, state, **self._parameters)

    def _get_name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


def _cell(cell: object, parameters: Mapping[str, Tensor] | None) -> nn.Module:
    if isinstance(cell, nn.RNNBase | Layer):
        name = type(cell).__name__
        raise TypeError(
            f"Recurrent: cell: expected a cell, which computes one step, got {name}, which runs over time itself"
        )
    if isinstance(cell, nn.Module):
        if parameters is not None:
            raise TypeError("Recurrent: parameters: expected none for a module, which has its own")
        return cell
    if not callable(cell) or isinstance(cell, type):
        came = f"the class {cell.__name__}" if isinstance(cell, type) else type(cell).__name__
        raise TypeError(f"Recurrent: cell: expected a torch.nn.Module or a function, got {came}")
    return _Function(cell, parameters or {})


def _tensors(state: object) -> tuple[Tensor, ...]:
    if not isinstance(state, tuple | list) or not all(isinstance(s, Tensor) for s in state):
        hint = lengths_hint(state)
        raise TypeError(f"Recurrent: state: expected a tensor or a tuple of tensors, got {state!r:.60}{hint}")
    return tuple(state)


def _state_size(cell: nn.Module) -> int | tuple[int, ...] | None:
    if isinstance(cell, nn.LSTMCell):
        return (cell.hidden_size, cell.hidden_size)
    if isinstance(cell, nn.GRUCell | nn.RNNCell):
        return cell.hidden_size
    size: int | tuple[int, ...] | None = getattr(cell, "state_size", None)
    return size
