"""The support tables of the export formats, from their lowering tables. Part of docs/export.md."""

from collections.abc import Callable
from typing import Any

import torch

from elman import cells
from elman.engine.export import c_lowering, onnx_lowering
from elman.engine.export.onnx_graph import OnnxGraph, Value
from elman.engine.plan.operations import POINTWISE, REDUCTIONS
from elman.export._onnx_layer import OPERATORS

#: an argument of each kind, as the schemas of operations name the kinds
ARGUMENTS: dict[str, Any] = {
    "Tensor": Value("x"), "number": 0.3, "List[int]": [3, 4], "ScalarType": torch.float32,
    "Optional[number]": 0.3, "Optional[Tensor]": Value("x"),
}  # fmt: skip


def onnx_operators(operation: Any) -> str:
    """Return the operators that an operation becomes, in their order."""
    graph = OnnxGraph()
    lower = onnx_lowering.LOWERING.get(operation) or onnx_lowering.REDUCE[operation]
    lower(graph, *_arguments(operation))
    return ", ".join(dict.fromkeys(node.op_type for node in graph.nodes)) or "the value itself"


def c_expression(operation: Any) -> str:
    """Return the expression that an operation becomes; of a reduction, what it does with each column."""
    if operation in REDUCTIONS:
        text = f"total = {c_lowering.COMBINE[operation]('total', 'x')}"
    else:
        names = iter("xyz")
        operands = [next(names) if isinstance(v, Value | float) else v for v in _arguments(operation)]
        text = c_lowering.LOWERING[operation](*operands)
    return f"`{text}`".replace("|", "\\|")


#: what a column of the table shows of an operation, by the name of the format
COLUMNS: dict[str, Callable[[Any], str]] = {"ONNX": onnx_operators, "C": c_expression}


def cells_table() -> str:
    """Return a table in Markdown of the registered cells, and the operator of ONNX that runs each over time."""
    lines = ["| cell | ONNX |", "| --- | --- |"]
    for cell in map(cells.by_name, cells.REGISTRY):
        lines.append(f"| `{cell.__name__}` | {OPERATORS[cell].name if cell in OPERATORS else 'Scan'} |")
    return "\n".join(lines) + "\n"


def table() -> str:
    """Return the table in Markdown; operations with several forms, of tensors and of numbers, are one row."""
    rows: dict[str, list[str]] = {}
    for operation in sorted(POINTWISE | REDUCTIONS.keys(), key=str):
        name = str(operation).removeprefix("aten.").split(".")[0]
        if not name.endswith("_backward"):
            rows.setdefault(name, [column(operation) for column in COLUMNS.values()])
    lines = [["operation", *COLUMNS], ["---"] * (1 + len(COLUMNS))]
    lines += [[f"`{name}`", *cells] for name, cells in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _arguments(operation: Any) -> list[Any]:
    """Arguments of an operation, and the axis of a reduction; flags keep their defaults."""
    if operation in REDUCTIONS:
        return [ARGUMENTS["Tensor"], [1]]
    arguments = (argument for argument in operation._schema.arguments if not argument.kwarg_only)
    kinds = {argument.name: str(argument.real_type) for argument in arguments if argument.name != "alpha"}
    return [ARGUMENTS[kind] for kind in kinds.values() if kind in ARGUMENTS]
