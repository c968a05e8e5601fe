"""A whole model as cells: its layers and what lies between them, as one step."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from elman.engine import CellSpec, State, as_tuple
from elman.engine.eager import run_step, split_output
from elman.engine.export.forward_step import CannotExport
from elman.engine.outputs import flatten_output
from elman.export._modules import example_input, is_layer
from elman.layers._cell_runs import CellRun
from elman.layers._layer import Layer

STEPS = 4  # of the sequence on which the model is compared with its steps
TOLERANCE = 1e-4


class ModelPart(NamedTuple):
    """A part of a model, over time: one cell, or one for each direction.

    Attributes:
        specs: the cells with the values of their parameters; two for both directions over the same input.
        initial: for each cell and each of its states, the learned initial values (H,), or None for zeros.
        equations: docstrings of the cells.
    """

    specs: tuple[CellSpec, ...]
    initial: tuple[tuple[Tensor | None, ...], ...]
    equations: str


class StepModel(NamedTuple):
    """A model as parts that run one after the other.

    Attributes:
        parts: in order; a single one has a step.
        input_size: the width of the input of the first part.
        embedding: the table (V, D) that tokens look up their rows in; None: the input has numbers.
    """

    parts: tuple[ModelPart, ...]
    input_size: int
    embedding: Tensor | None


class _Root(nn.Module):
    """A model as a function of its input alone; the attributes `layer0` and so on are the steps of its layers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


class _LayerStep(nn.Module):
    """One step of a layer: its cells, each over the output of the one below; takes and returns all their states."""

    def __init__(self, runs: Sequence[CellRun]) -> None:
        super().__init__()
        self.sizes = [run.spec.state_size for run in runs]
        for k, run in enumerate(runs):
            self.add_module(f"l{k}", run.spec.cell)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        new: list[Tensor] = []
        for cell, size in zip(self.children(), self.sizes, strict=True):
            states = state[len(new) : len(new) + len(as_tuple(size))]
            cell_state: State = states[0] if isinstance(size, int) else states
            output, after = split_output(cell, cell(x, cell_state), cell_state)
            x = flatten_output(output)
            new += as_tuple(after)
        return x, tuple(new)


def step_model(module: nn.Module, inputs: Any, where: str) -> StepModel:
    """Split a model in evaluation into parts.

    Args:
        module: a layer, or a model whose other modules compute each step from that step alone.
        inputs: an example input, (T, B, D) or tokens (T, B); None if the model has layers or modules that know its
            size.
        where: the beginning of error messages.

    Raises:
        CannotExport: for a model that has no such parts.
    """
    layers = [part for part in module.modules() if isinstance(part, Layer)]
    executors = [layer.executor for layer in layers]
    for layer in layers:
        layer.executor = "loop"  # which runs every cell, and compiles nothing
    try:
        return _Splitter(module, inputs, where).split()
    finally:
        for layer, executor in zip(layers, executors, strict=True):
            layer.executor = executor


@dataclass
class _Segment:
    """The operations between two layers that have no step."""

    graph: fx.Graph = field(default_factory=fx.Graph)
    values: dict[fx.Node, fx.Node] = field(default_factory=dict)
    runs: dict[str, list[CellRun]] = field(default_factory=dict)  # of the layers, by the names of their steps
    layers: list[Layer] = field(default_factory=list)
    new_states: list[fx.Node] = field(default_factory=list)
    input_size: int = 0

    def __post_init__(self) -> None:
        self.x, self.state = self.graph.placeholder("x"), self.graph.placeholder("state")


class _Splitter:
    def __init__(self, module: nn.Module, inputs: Any, where: str) -> None:
        self.module, self.where = module, where
        self.root = _Root(module)
        self.graph = self._trace()
        self.placeholder = next(iter(self.graph.find_nodes(op="placeholder")))
        self.batch_first = any(part.batch_first for part in module.modules() if isinstance(part, Layer))
        self.example = self._example(inputs)

    def split(self) -> StepModel:
        widths = self._widths()
        embedding, entry = self._embedding()
        D = self.example.shape[-1] if embedding is None else embedding.shape[1]
        segment, parts = self._begin(entry, D), list[ModelPart]()
        result = self._result()
        needed = _needed(result)
        for node in self.graph.nodes:
            if node not in needed or node is entry or node.op in ("placeholder", "output"):
                continue
            layer = self._layer(node)
            if layer is not None and getattr(layer, "bidirectional", False):
                self._check_arguments(node)
                before = node.args[0]
                assert isinstance(before, fx.Node)
                parts += self._part_of(segment, before)
                parts += self._two_directions(layer, widths[before])
                segment = self._begin(node, widths[node])
            elif layer is not None:
                self._add_layer(segment, node, layer, widths)
            else:
                self._add_operation(segment, node)
        parts += self._part_of(segment, result, is_last=not parts)
        model = StepModel(tuple(parts), D, embedding)
        if len(parts) == 1 and len(parts[0].specs) == 1:
            self._check_steps(parts[0].specs[0], parts[0].initial[0], embedding)
        return model

    def _trace(self) -> fx.Graph:
        if is_layer(self.module):
            graph = fx.Graph()
            layer = graph.call_module("model", (graph.placeholder("x"),))
            graph.output(graph.call_function(operator.getitem, (layer, 0)))
            return graph
        try:
            return fx.Tracer().trace(self.root)
        except Exception as error:
            # Raised by the model, or by torch.fx: its forward is no fixed sequence of modules and operations.
            raise CannotExport(
                f"{self.where}: {type(self.module).__name__}: expected a model that torch.fx can trace, got "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error

    def _example(self, inputs: Any) -> Tensor:
        """Return an example input of several steps of one sequence."""
        generator = torch.Generator().manual_seed(0)
        lead = (1, STEPS) if self.batch_first else (STEPS, 1)
        if inputs is not None:
            x = inputs[0] if isinstance(inputs, tuple | list) else inputs
            first: Tensor = x[:1, :STEPS] if self.batch_first else x[:STEPS, :1]
            return first.detach()
        if is_layer(self.module):
            return example_input(self.module, STEPS, 1, generator)
        users = [node for node in self.graph.nodes if self.placeholder in node.all_input_nodes]
        for node in users:
            reader = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(reader, nn.Embedding):
                return torch.randint(0, reader.num_embeddings, lead, generator=generator)
            for name in ("input_size", "in_features"):
                size = getattr(reader, name, None)
                if isinstance(size, int):
                    dtype = next((value.dtype for value in self.module.parameters()), torch.float32)
                    return torch.randn(*lead, size, generator=generator).to(dtype)
        raise CannotExport(
            f"{self.where}: {type(self.module).__name__}: expected an example input, since the model does not tell the "
            "width of its input; pass inputs="
        )

    def _widths(self) -> dict[fx.Node, int]:
        """Return the width of every value that is a tensor, or of the first tensor of a pair."""
        widths: dict[fx.Node, int] = {}

        class WidthRecorder(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                result = super().run_node(n)
                tensor = result[0] if isinstance(result, tuple) and result else result
                if isinstance(tensor, dict):
                    widths[n] = sum(value[0, 0].numel() for value in tensor.values())
                elif isinstance(tensor, Tensor) and tensor.dim():
                    widths[n] = tensor.shape[-1]
                return result

        with torch.no_grad():
            WidthRecorder(self.root, graph=self.graph).run(self.example)
        return widths

    def _embedding(self) -> tuple[Tensor | None, fx.Node]:
        """Return the table that the input looks up rows in, if it does, and the node of the first numbers."""
        users = list(self.placeholder.users)
        if len(users) == 1 and users[0].op == "call_module":
            module = self.root.get_submodule(str(users[0].target))
            if isinstance(module, nn.Embedding):
                if module.max_norm is not None:
                    raise CannotExport(f"{self.where}: {users[0].target}: expected an Embedding without max_norm")
                return module.weight.detach(), users[0]
        return None, self.placeholder

    def _result(self) -> fx.Node:
        """Return the node of the output: the first, if the model returns several values."""
        output = next(iter(self.graph.find_nodes(op="output"))).args[0]
        output = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(output, fx.Node):
            raise CannotExport(
                f"{self.where}: {type(self.module).__name__}: expected a model that returns a tensor, or one with a "
                f"state, got {type(output).__name__}"
            )
        return output

    def _layer(self, node: fx.Node) -> Layer | None:
        module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        return module if isinstance(module, Layer) else None

    def _check_arguments(self, node: fx.Node) -> None:
        if len(node.args) != 1 or node.kwargs:
            raise CannotExport(
                f"{self.where}: {_name(node)}: expected a layer that is called with its input alone, got a state or "
                "lengths"
            )

    def _begin(self, entry: fx.Node, width: int) -> _Segment:
        segment = _Segment(input_size=width)
        segment.values[entry] = segment.x
        return segment

    def _value(self, segment: _Segment, value: fx.Node, reader: fx.Node) -> fx.Node:
        if value not in segment.values:
            raise CannotExport(
                f"{self.where}: {_name(reader)}: expected values from behind the last layer with two directions alone, "
                f"got {_name(value)}"
            )
        return segment.values[value]

    def _add_layer(self, segment: _Segment, node: fx.Node, layer: Layer, widths: Mapping[fx.Node, int]) -> None:
        self._check_arguments(node)
        runs = layer._cell_runs(widths[node.args[0]])  # type: ignore[index]
        name, first = f"layer{len(self.root._modules) - 1}", len(segment.new_states)
        self.root.add_module(name, _LayerStep(runs).eval())
        count = sum(len(as_tuple(run.spec.state_size)) for run in runs)
        graph, x = segment.graph, self._value(segment, node.args[0], node)  # type: ignore[arg-type]
        states = graph.call_function(operator.getitem, (segment.state, slice(first, first + count)))
        call = graph.call_module(name, (x, states))
        output, new = (graph.call_function(operator.getitem, (call, k)) for k in range(2))
        segment.new_states += [graph.call_function(operator.getitem, (new, k)) for k in range(count)]
        segment.values[node] = output
        segment.runs[name] = runs
        segment.layers.append(layer)

    def _add_operation(self, segment: _Segment, node: fx.Node) -> None:
        layer = node.args[0] if node.target is operator.getitem else None
        if isinstance(layer, fx.Node) and self._layer(layer) is not None:
            if node.args[1] != 0:
                raise CannotExport(f"{self.where}: {_name(layer)}: expected its outputs to be read, got its state")
            segment.values[node] = self._value(segment, layer, node)
            return
        segment.values[node] = segment.graph.node_copy(node, lambda value: self._value(segment, value, node))

    def _part_of(self, segment: _Segment, result: fx.Node, is_last: bool = False) -> list[ModelPart]:
        """Return the part that computes a value; none if that is the input of the segment."""
        value = self._value(segment, result, result)
        if value is segment.x and not is_last:
            return []
        graph, states = segment.graph, segment.new_states
        graph.output((value, tuple(states)) if states else value)
        graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
        cell = fx.GraphModule(self.root, graph, f"{type(self.module).__name__}Step").eval()
        parameters = dict(chain(cell.named_parameters(), cell.named_buffers()))
        initial: list[Tensor | None] = []
        sizes: list[int] = []
        equations: dict[str, None] = {}
        for (name, runs), layer in zip(segment.runs.items(), segment.layers, strict=True):
            for k, run in enumerate(runs):
                parameters |= {f"{name}.l{k}.{key}": value for key, value in run.spec.parameters.items()}
                sizes += as_tuple(run.spec.state_size)
                initial += _initial(layer, len(as_tuple(run.spec.state_size)))
                equations[_equations(run.spec.cell)] = None
        D = segment.input_size
        if states:
            spec = CellSpec(cell, parameters, D, tuple(sizes))
        else:
            with torch.no_grad():
                spec = CellSpec(_Stateless(cell), {f"cell.{k}": v for k, v in parameters.items()}, D, 1)
                like = next((v for v in parameters.values() if v.is_floating_point()), torch.empty(0))
                spec = spec._replace(state_size=cell(like.new_zeros(1, D), ()).shape[-1])
        return [ModelPart((spec,), (tuple(initial),), "\n".join(equations) or "Operations between the layers.")]

    def _two_directions(self, layer: Layer, width: int) -> list[ModelPart]:
        parts = []
        runs = layer._cell_runs(width)
        for forward, reverse in zip(runs[::2], runs[1::2], strict=True):
            nothing = (None,) * len(as_tuple(forward.spec.state_size))
            parts.append(ModelPart((forward.spec, reverse.spec), (nothing, nothing), _equations(forward.spec.cell)))
        return parts

    def _check_steps(self, spec: CellSpec, initial: Sequence[Tensor | None], embedding: Tensor | None) -> None:
        """Check that steps one after the other compute what the model does."""
        time = int(self.batch_first)
        with torch.no_grad():
            expected = self.root(self.example)
            while isinstance(expected, tuple | list):
                expected = expected[0]
            x = self.example if embedding is None else torch.nn.functional.embedding(self.example, embedding)
            sizes = as_tuple(spec.state_size)
            values = initial or (None,) * len(sizes)
            states = [x.new_zeros(1, n) if v is None else v[None] for n, v in zip(sizes, values, strict=True)]
            state: State = states[0] if isinstance(spec.state_size, int) else tuple(states)
            outputs = []
            for x_t in x.unbind(time):
                output, state = run_step(spec.cell, spec.parameters, x_t, state)
                outputs.append(output)
            actual = torch.stack([flatten_output(output) for output in outputs], time)
            if isinstance(expected, dict):
                expected = flatten_output(expected, 2)
        if expected.shape != actual.shape or not torch.allclose(expected, actual, TOLERANCE, TOLERANCE, equal_nan=True):
            raise CannotExport(
                f"{self.where}: {type(self.module).__name__}: expected a model that computes each step from that step "
                "and the states of its layers, got other outputs step by step than over the sequence"
            )


class _Stateless(nn.Module):
    """A function of x as a cell, whose state is its output and is not read."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return self.cell(x, ())  # type: ignore[no-any-return]


def _needed(result: fx.Node) -> set[fx.Node]:
    """Return a value and all that it is computed from."""
    needed, pending = set[fx.Node](), [result]
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending += node.all_input_nodes
    return needed


def _name(node: fx.Node) -> str:
    """Return the name of a module or an operation in the model."""
    return str(node.target).removeprefix("model.") if node.op == "call_module" else node.name


def _initial(layer: Layer, count: int) -> list[Tensor | None]:
    learned = getattr(layer, "initial_state", None)
    return [None] * count if learned is None else [value.detach() for value in learned]


def _equations(cell: nn.Module) -> str:
    """Return the docstring of a cell, up to its arguments."""
    while hasattr(cell, "cell") and isinstance(cell.cell, nn.Module):
        cell = cell.cell
    doc = type(cell).__doc__ if type(cell).__module__.split(".")[0] != "torch" else None
    first, *others = ((doc or "one step").partition("Args:")[0].rstrip() or "one step").splitlines()
    return "\n".join([f"{type(cell).__name__}: {first}", *(line.removeprefix("    ") for line in others)])
