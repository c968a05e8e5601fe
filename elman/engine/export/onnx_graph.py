"""Builds graphs of ONNX operators."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor

FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


class Value(NamedTuple):
    """A value of a graph.

    Attributes:
        name: in the graph.
        is_bool: it has conditions, not numbers.
        has_rows: its first axis is the batch.
    """

    name: str
    is_bool: bool = False
    has_rows: bool = True


Operand = Value | float


class OnnxGraph:
    """A graph of ONNX operators, or the body of a `Scan`, which reads the values of the graph around it.

    Args:
        prefix: of all names, so that graphs can be joined.
        around: the graph that a body belongs to.

    Attributes:
        nodes: in the order in which they are computed.
        initializers: constants by name, of this graph and of the bodies in it.
        rows: the name of a value whose first axis is the batch.
    """

    def __init__(self, prefix: str = "", around: "OnnxGraph | None" = None) -> None:
        self.prefix, self.nodes, self.rows = prefix, list[NodeProto](), ""
        self.initializers: dict[str, TensorProto] = {} if around is None else around.initializers
        self._counts: dict[str, int] = {} if around is None else around._counts
        self._constants: dict[Any, str] = {} if around is None else around._constants

    def name(self, stem: str) -> str:
        """Return a new name."""
        count = self._counts[stem] = self._counts.get(stem, -1) + 1
        return f"{self.prefix}{stem}_{count}"

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result, and return the name of that."""
        return self.ops(operator, inputs, 1, **attributes)[0]

    def ops(self, operator: str, inputs: Any, count: int, **attributes: Any) -> list[str]:
        """Add a node with several results."""
        results = [self.name(operator.lower()) for _ in range(count)]
        self.nodes.append(helper.make_node(operator, list(inputs), results, self.name(operator), **attributes))
        return results

    def array(self, array: NDArray[Any], stem: str = "constant") -> str:
        """Return the name of a constant; equal ones share it."""
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            name = self._constants[key] = self.name(stem)
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return self._constants[key]

    def tensor(self, value: Tensor, stem: str = "weight") -> Value:
        """Return a tensor without rows as a constant."""
        value = value.detach().cpu()
        if value.dtype != torch.bool:
            value = value.float()
        return Value(self.array(value.contiguous().numpy(), stem), value.dtype == torch.bool, has_rows=False)

    def ints(self, *values: int) -> str:
        """Return a list of integers, such as axes or a shape, as a constant."""
        return self.array(np.array(values, np.int64), "ints")

    def number(self, value: float) -> str:
        """Return a number as a constant."""
        return self.array(np.array(value, np.float32), "number")

    def numbers(self, value: Operand) -> str:
        """Return a value as numbers: conditions are 1 and 0."""
        if not isinstance(value, Value):
            return self.number(float(value))
        return self.op("Cast", value.name, to=FLOAT) if value.is_bool else value.name

    def conditions(self, value: Operand) -> str:
        """Return a value as conditions: any number but 0 is true."""
        if not isinstance(value, Value):
            return self.array(np.array(bool(value)), "condition")
        return value.name if value.is_bool else self.op("Cast", value.name, to=BOOL)

    def size(self, value: str, *axes: int) -> str:
        """Return the sizes of neighbouring axes of a value as a list."""
        return self.op("Shape", value, start=axes[0], end=axes[-1] + 1)

    def batch(self) -> str:
        """Return the size of the batch as a list, for values that are made without rows."""
        return self.size(self.rows, 0)

    def results(self, names: Sequence[str]) -> list[str]:
        """Return values as results: each computed in this graph, and no two the same."""
        computed = {name for node in self.nodes for name in node.output}
        results: list[str] = []
        for name in names:
            results.append(name if name in computed and name not in results else self.op("Identity", name))
        return results

    def join(self, *values: str, axis: int = 0) -> str:
        """Concatenate values; one alone is returned as it is."""
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def body(self, name: str, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> GraphProto:
        """Return the nodes as the body of a `Scan`; constants stay in the graph around it."""
        return helper.make_graph(self.nodes, name, inputs, outputs)


def value_info(name: str, shape: list[int | str | None], kind: int = FLOAT) -> ValueInfoProto:
    """Describe an input or output: numbers for fixed axes, names for free ones, None for unknown ones."""
    return helper.make_tensor_value_info(name, kind, shape)
