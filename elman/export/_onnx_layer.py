"""A layer as a graph of ONNX: a node RNN, GRU or LSTM for the cells that ONNX has, a `Scan` for all others."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman import cells
from elman.cells._cell import Cell
from elman.engine import as_tuple
from elman.engine.export.forward_step import forward_step
from elman.engine.export.onnx_graph import OnnxGraph
from elman.engine.export.onnx_scan import SUPPORTED, scan
from elman.engine.module_state import has_hooks
from elman.engine.outputs import Form, row_width
from elman.layers._cell_runs import CellRun
from elman.layers._layer import Layer
from elman.weights.onnx import node_inputs


class Operator(NamedTuple):
    """An operator of ONNX that runs a cell over time, and the cell of `elman.cells` with the same weights."""

    name: str
    cell: type[Cell]
    attributes: Mapping[str, Any] = {}


OPERATORS: dict[type[nn.Module], Operator] = {
    cells.RNN: Operator("RNN", cells.RNN),
    nn.RNNCell: Operator("RNN", cells.RNN),
    cells.GRU: Operator("GRU", cells.GRU, {"linear_before_reset": 1}),
    nn.GRUCell: Operator("GRU", cells.GRU, {"linear_before_reset": 1}),
    cells.ResetBeforeGRU: Operator("GRU", cells.ResetBeforeGRU, {"linear_before_reset": 0}),
    cells.LSTM: Operator("LSTM", cells.LSTM),
    nn.LSTMCell: Operator("LSTM", cells.LSTM),
    cells.PeepholeLSTM: Operator("LSTM", cells.PeepholeLSTM),
}


class LayerValues(NamedTuple):
    """The names of the results of a layer in a graph.

    Attributes:
        outputs: by the names that the layer gives them; "" is the name of a single one.
        form: the names of the outputs, and their shapes without time and batch.
        states: the final states.
    """

    outputs: dict[str, str]
    form: Form
    states: list[str]


def add_layer(
    graph: OnnxGraph,
    layer: Layer,
    runs: Sequence[CellRun],
    x: str,
    states: Sequence[str] | None,
    lengths: str | None,
) -> LayerValues:
    """Add a layer to a graph.

    Args:
        graph: to add to.
        layer: in evaluation mode.
        runs: its cells.
        x: the input, (T, B, D), with `batch_first`, too, as are the outputs.
        states: the initial states, in the shapes of the layer; None for its own initial state.
        lengths: of the sequences, (B,), int64; None if all have T steps.
    """
    return _LayerGraph(graph, layer, runs, x, states, lengths).add()


class _LayerGraph:
    """Takes the arguments of `add_layer`."""

    def __init__(
        self, graph: OnnxGraph, layer: Layer, runs: Sequence[CellRun], x: str, states: Sequence[str] | None,
        lengths: str | None,
    ) -> None:  # fmt: skip
        self.graph, self.layer, self.runs, self.x, self.lengths = graph, layer, runs, x, lengths
        self.is_stacked = bool(layer._state_lead())  # states are (L, B, H)
        self.states = self._initial_states() if states is None else list(states)
        self.active = None if lengths is None else self._active_steps(lengths)
        self.form: Form = ()  # of an output that is not a state

    def add(self) -> LayerValues:
        """Add the layers from the lowest up."""
        rows, finals, first = self.x, [], 0
        for _, group in groupby(self.runs, lambda run: run.layer):
            directions = list(group)
            operator = _operator(directions[0].spec.cell)
            add = self._add_scans if operator is None else self._add_operator
            rows, of_layer = add(rows, directions, first)
            finals.append(of_layer)
            first += len(directions)
        joined = [self.graph.join(*values) for values in zip(*finals, strict=True)]
        last = [run for run in self.runs if run.layer == self.runs[-1].layer]
        form = self.form or (("", (len(last) * as_tuple(last[0].spec.state_size)[0],)),)
        return LayerValues(self._outputs(rows, form), form, joined)

    def _initial_states(self) -> list[str]:
        """The layer's own initial states: zeros, or learned ones."""
        graph, batch = self.graph, self.graph.size(self.x, 1)
        values = initial_values(self.layer, self.runs)
        lead = [graph.ints(*self.layer._state_lead())] if self.is_stacked else []
        return [
            graph.op("Expand", graph.tensor(value).name, graph.join(*lead, batch, graph.ints(len(value))))
            for value in values
        ]

    def _active_steps(self, lengths: str) -> str:
        """Conditions (T, B, 1): whether a sequence has a step."""
        graph = self.graph
        T = graph.op("Gather", graph.op("Shape", self.x), graph.array(torch.tensor(0).numpy()), axis=0)
        zero, one = (graph.array(torch.tensor(number).numpy()) for number in (0, 1))
        steps = graph.op("Unsqueeze", graph.op("Range", zero, T, one), graph.ints(1))
        return graph.op("Unsqueeze", graph.op("Less", steps, lengths), graph.ints(2))

    def _add_scans(self, rows: str, runs: Sequence[CellRun], first: int) -> tuple[str, list[str]]:
        """Add a `Scan` for each direction of a layer."""
        graph, outputs, finals = self.graph, [], []
        for i, run in enumerate(runs, first):
            step = forward_step(run.spec, torch.float32, "onnx", SUPPORTED)
            states = self.states
            if self.is_stacked:
                index = graph.array(torch.tensor(i).numpy(), "index")
                states = [graph.op("Gather", state, index, axis=0) for state in states]
            result = scan(graph, step, rows, states, self.active, run.is_reverse)
            self.form = step.form
            outputs.append(result.rows)
            final = result.states
            if self.is_stacked:
                final = [graph.op("Unsqueeze", state, graph.ints(0)) for state in final]
            finals.append(final)
        return graph.join(*outputs, axis=2), [graph.join(*values) for values in zip(*finals, strict=True)]

    def _add_operator(self, rows: str, runs: Sequence[CellRun], first: int) -> tuple[str, list[str]]:
        """Add one node for all directions of a layer."""
        graph, cell = self.graph, runs[0].spec.cell
        operator = _operator(cell)
        assert operator is not None
        weights = [node_inputs(operator.cell, run.spec.parameters) for run in runs]
        stacked = {name: torch.stack([values[name] for values in weights]) for name in weights[0]}
        names = {name: graph.tensor(value, f"{operator.name}_{name}").name for name, value in stacked.items()}
        lengths = "" if self.lengths is None else graph.op("Cast", self.lengths, to=6)  # int32
        states = [self._states_of_node(state, first, len(runs)) for state in self.states]
        inputs = [rows, names["W"], names["R"], names.get("B", ""), lengths, *states]
        if "P" in names:
            inputs.append(names["P"])
        attributes = dict(operator.attributes)
        if operator.name == "RNN":
            attributes["activations"] = [str(cell.nonlinearity).capitalize()] * len(runs)
        y, *finals = graph.ops(
            operator.name, inputs, 1 + len(states), hidden_size=as_tuple(runs[0].spec.state_size)[0],
            direction="bidirectional" if len(runs) > 1 else "forward", **attributes,
        )  # fmt: skip
        if self.lengths is not None:  # runtimes return zeros, not the initial state, for sequences without a step
            has_steps = graph.op("Greater", self.lengths, graph.array(torch.tensor(0).numpy()))
            mask = graph.op("Unsqueeze", has_steps, graph.ints(0, 2))
            finals = [graph.op("Where", mask, final, state) for final, state in zip(finals, states, strict=True)]
        if not self.is_stacked:
            finals = [graph.op("Squeeze", final, graph.ints(0)) for final in finals]
        if len(runs) == 1:
            return graph.op("Squeeze", y, graph.ints(1)), finals
        return graph.op("Reshape", graph.op("Transpose", y, perm=[0, 2, 1, 3]), graph.ints(0, 0, -1)), finals

    def _states_of_node(self, state: str, first: int, count: int) -> str:
        """The initial states of some directions, (count, B, H)."""
        graph = self.graph
        if not self.is_stacked:
            return graph.op("Unsqueeze", state, graph.ints(0))
        if count == len(self.runs):
            return state
        return graph.op("Slice", state, graph.ints(first), graph.ints(first + count), graph.ints(0))

    def _outputs(self, rows: str, form: Form) -> dict[str, str]:
        """The outputs by name, (T, B, ...)."""
        graph, sizes = self.graph, [row_width((part,)) for part in form]
        parts = [rows] if len(sizes) == 1 else graph.ops("Split", (rows, graph.ints(*sizes)), len(sizes), axis=2)
        return {
            name: part if len(shape) == 1 else graph.op("Reshape", part, graph.ints(0, 0, *shape))
            for (name, shape), part in zip(form, parts, strict=True)
        }


def initial_values(layer: Layer, runs: Sequence[CellRun]) -> list[Tensor]:
    """Return the layer's own initial states without their batch, (H,) each: learned ones, or zeros."""
    learned = getattr(layer, "initial_state", None)
    if learned is not None:
        return [value.detach() for value in learned]
    return [torch.zeros(width) for width in as_tuple(runs[0].spec.state_size)]


def _operator(cell: nn.Module) -> Operator | None:
    return None if "forward" in vars(cell) or has_hooks(cell) else OPERATORS.get(type(cell))
