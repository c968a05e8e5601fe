"""Lowers a step to the operator `Scan` of ONNX, which runs it over time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch.fx import Node
from torch.fx.node import map_aggregate

from elman.engine.export.forward_step import ForwardStep
from elman.engine.export.onnx_graph import BOOL, FLOAT, OnnxGraph, Value, value_info
from elman.engine.export.onnx_lowering import ARRANGE, LOWERING, REDUCE
from elman.engine.plan.domains import PRODUCT
from elman.engine.trace.values import shape_of

#: the pointwise operations and reductions that ONNX has
SUPPORTED = LOWERING.keys() | REDUCE.keys()


class Scanned(NamedTuple):
    """The results of a `Scan`: the rows of the output of all steps (T, B, width), and the final states (B, H)."""

    rows: str
    states: list[str]


def scan(
    graph: OnnxGraph, step: ForwardStep, x: str, states: Sequence[str], active: str | None, is_reverse: bool
) -> Scanned:
    """Add a `Scan` that runs a step over time; what needs x alone runs before it, for all steps at once.

    Args:
        graph: to add to.
        step: of the cell.
        x: (T, B, D).
        states: at the beginning, (B, H) each.
        active: conditions (T, B, 1), false behind the end of a sequence, where states stay and outputs are zero; None
            if all sequences have T steps.
        is_reverse: read the sequences from their ends.
    """
    sequences = _before_loop(graph, step, x) or {step.x: Value(x)}
    body = OnnxGraph(graph.prefix, graph)
    old = [body.name("state") for _ in states]
    at_step = {node: Value(body.name("step"), value.is_bool) for node, value in sequences.items()}
    values: dict[Node, Any] = {**at_step, **dict(zip(step.states, map(Value, old), strict=True))}
    body.rows = old[0]
    _lower(body, step, (node for node in step.operations if node not in step.before_loop), values)
    new = [body.numbers(_value_of(body, step, node, values)) for node in step.new_states]
    inputs = [value_info(name, [None, shape_of(node)[1]]) for name, node in zip(old, step.states, strict=True)]
    for node, value in at_step.items():
        inputs.append(value_info(value.name, [None, *shape_of(node)[1:]], BOOL if value.is_bool else FLOAT))
    scanned = [value.name for value in sequences.values()]
    if active is not None:
        is_active = body.name("active")
        inputs.append(value_info(is_active, [None, 1], BOOL))
        scanned.append(active)
        new = [body.op("Where", is_active, *pair) for pair in zip(new, old, strict=True)]
    row = new[0] if step.output is None else body.numbers(_value_of(body, step, step.output, values))
    results = body.results([*new, row])
    nodes = (*step.new_states, step.new_states[0] if step.output is None else step.output)
    outputs = [value_info(name, [None, shape_of(node)[1]]) for name, node in zip(results, nodes, strict=True)]
    directions: dict[str, Any] = {}
    if is_reverse:
        directions = {"scan_input_directions": [1] * len(scanned), "scan_output_directions": [1]}
    *finals, rows = graph.ops(
        "Scan", (*states, *scanned), len(results), body=body.body(graph.name("step"), inputs, outputs),
        num_scan_inputs=len(scanned), **directions,
    )  # fmt: skip
    if active is not None:
        rows = graph.op("Where", active, rows, graph.number(0))
    return Scanned(rows, finals)


def _before_loop(graph: OnnxGraph, step: ForwardStep, x: str) -> dict[Node, Value]:
    """Compute what needs x alone, of all steps at once; returns what the loop reads, (T, B, ...) each."""
    early = {step.x, *step.before_loop}
    results = [*step.new_states, *([] if step.output is None else [step.output])]
    read = {value for node in step.operations if node not in early for value in node.all_input_nodes}
    needed = [node for node in (step.x, *step.operations) if node in early and (node in read or node in results)]
    computed = [node for node in needed if node is not step.x]
    sequences: dict[Node, Value] = {step.x: Value(x)} if step.x in needed else {}
    if not computed:
        return sequences
    flat = graph.op("Reshape", x, graph.ints(-1, shape_of(step.x)[1]))
    values: dict[Node, Any] = {step.x: Value(flat)}
    graph.rows = flat
    _lower(graph, step, (node for node in step.operations if node in step.before_loop), values)
    steps = graph.size(x, 0, 1)
    for node in computed:
        shape = shape_of(node)[1:]
        target = graph.join(steps, *([graph.ints(*shape)] if shape else []))
        sequences[node] = values[node]._replace(name=graph.op("Reshape", values[node].name, target))
    return sequences


def _lower(graph: OnnxGraph, step: ForwardStep, nodes: Iterable[Node], values: dict[Node, Any]) -> None:
    """Add the operators of some operations, and their results to `values`."""
    for node in nodes:

        def convert(argument: Any, node: Node = node) -> Any:
            if not isinstance(argument, Node):
                return argument
            if argument in values:
                return values[argument]
            # A matrix that rows are multiplied with, and what is broadcast along the first axis, has no rows.
            has_rows = node.target in ARRANGE or len(shape_of(argument)) == len(shape_of(node))
            return _value_of(graph, step, argument, values, has_rows and node.target not in PRODUCT)

        arguments, options = map_aggregate((node.args, dict(node.kwargs)), convert)
        if node.target in ARRANGE:
            values[node] = ARRANGE[node.target](graph, node, *arguments, **options)
        else:
            lower = LOWERING.get(node.target) or REDUCE[node.target]
            values[node] = lower(graph, *arguments, **options)


def _value_of(
    graph: OnnxGraph, step: ForwardStep, node: Node, values: Mapping[Node, Any], may_have_rows: bool = True
) -> Any:
    """Return a value that has been computed, or a constant, which has the same row for each sequence if it has any."""
    if node in values:
        return values[node]
    constant, shape = step.constants[node], shape_of(node)
    if not (may_have_rows and shape and shape[0] == step.step.batch):
        return graph.tensor(constant)
    row = graph.tensor(constant[:1])
    target = graph.join(graph.batch(), *([graph.ints(*shape[1:])] if shape[1:] else []))
    return Value(graph.op("Expand", row.name, target), row.is_bool)
