"""Lowers the operations of `plan.operations`, and those that arrange columns, to operators of ONNX.

Each function takes the graph and the operation's arguments as torch passes them: values, and Python numbers.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from elman.engine.export.onnx_graph import OnnxGraph, Operand, Value
from elman.engine.trace.aten import CONSTANT
from elman.engine.trace.values import shape_of

aten = torch.ops.aten

Operation = Callable[..., Value]
Arrangement = Callable[..., Any]


def _unary(name: str) -> Operation:
    return lambda graph, x: Value(graph.op(name, graph.numbers(x)))


def _binary(name: str) -> Operation:
    return lambda graph, a, b: Value(graph.op(name, graph.numbers(a), graph.numbers(b)))


_multiply, _divide, _maximum, _minimum = (_binary(name) for name in ("Mul", "Div", "Max", "Min"))
_plus, _minus = _binary("Add"), _binary("Sub")


def _scaled(graph: OnnxGraph, value: Operand, alpha: float) -> Operand:
    return value if alpha == 1 else _multiply(graph, value, alpha)


def _add(graph: OnnxGraph, a: Operand, b: Operand, alpha: float = 1) -> Value:
    return _plus(graph, a, _scaled(graph, b, alpha))


def _sub(graph: OnnxGraph, a: Operand, b: Operand, alpha: float = 1) -> Value:
    return _minus(graph, a, _scaled(graph, b, alpha))


def _tanh_backward(graph: OnnxGraph, grad: Value, y: Value) -> Value:
    return _multiply(graph, grad, _minus(graph, 1, _multiply(graph, y, y)))


def _sigmoid_backward(graph: OnnxGraph, grad: Value, y: Value) -> Value:
    return _multiply(graph, grad, _multiply(graph, y, _minus(graph, 1, y)))


def _threshold_backward(graph: OnnxGraph, grad: Value, y: Value, threshold: float) -> Value:
    return _where(graph, _not(graph, _comparison("LessOrEqual")(graph, y, threshold)), grad, 0)


def _expm1(graph: OnnxGraph, x: Value) -> Value:
    """e^x - 1 = tanh(x / 2) (e^x + 1), in which nothing cancels where x is small."""
    half = Value(graph.op("Tanh", graph.numbers(_multiply(graph, x, 0.5))))
    return _multiply(graph, half, _plus(graph, _unary("Exp")(graph, x), 1))


def _log1p(graph: OnnxGraph, x: Value) -> Value:
    """log(1 + x) = log(u) x / (u - 1) with u = 1 + x rounded, which makes up for the rounding; x itself where u = 1."""
    u = _plus(graph, x, 1)
    rounded = _minus(graph, u, 1)
    log, is_tiny = _unary("Log")(graph, u), _comparison("Equal")(graph, rounded, 0)
    is_exact = _comparison("GreaterOrEqual")(graph, x, LARGE)  # among them infinity, by which nothing is divided
    ratio = _where(graph, is_exact, 1, _divide(graph, x, _where(graph, is_tiny, 1, rounded)))
    return _where(graph, is_tiny, x, _multiply(graph, log, ratio))


LARGE = 2.0**24


def _rsqrt(graph: OnnxGraph, x: Value) -> Value:
    return Value(graph.op("Reciprocal", graph.op("Sqrt", graph.numbers(x))))


def _pow(graph: OnnxGraph, x: Value, exponent: Operand) -> Value:
    if exponent == 2:
        return _multiply(graph, x, x)
    if exponent == 0.5:
        return _unary("Sqrt")(graph, x)
    return _binary("Pow")(graph, x, exponent)


def _trunc(graph: OnnxGraph, x: Value) -> Value:
    return _multiply(graph, _unary("Sign")(graph, x), Value(graph.op("Floor", graph.op("Abs", graph.numbers(x)))))


def _clamp(graph: OnnxGraph, x: Value, low: Operand | None = None, high: Operand | None = None) -> Value:
    x = x if low is None else _maximum(graph, x, low)
    return x if high is None else _minimum(graph, x, high)


def _comparison(name: str) -> Operation:
    return lambda graph, a, b: Value(graph.op(name, graph.numbers(a), graph.numbers(b)), is_bool=True)


def _logical(name: str) -> Operation:
    return lambda graph, a, b: Value(graph.op(name, graph.conditions(a), graph.conditions(b)), is_bool=True)


def _not(graph: OnnxGraph, a: Operand) -> Value:
    return Value(graph.op("Not", graph.conditions(a)), is_bool=True)


def _where(graph: OnnxGraph, condition: Value, a: Operand, b: Operand) -> Value:
    is_bool = all(isinstance(value, Value) and value.is_bool for value in (a, b))
    convert = graph.conditions if is_bool else graph.numbers
    return Value(graph.op("Where", graph.conditions(condition), convert(a), convert(b)), is_bool)


def _expand(graph: OnnxGraph, x: Value, shape: Sequence[int], implicit: bool = False) -> Value:
    del implicit
    sizes = [1 if size == -1 else size for size in shape[1:]]  # -1: as it is
    target = graph.ints(1, *sizes) if x.has_rows else graph.join(graph.batch(), graph.ints(*sizes))
    return x._replace(name=graph.op("Expand", x.name, target), has_rows=True)


def _convert(graph: OnnxGraph, x: Value, dtype: torch.dtype) -> Value:
    if dtype == torch.bool:
        return Value(graph.conditions(x), is_bool=True)
    return Value(graph.numbers(x))


LOWERING: dict[Any, Operation] = {
    aten.add.Tensor: _add,
    aten.add.Scalar: _add,
    aten.sub.Tensor: _sub,
    aten.sub.Scalar: _sub,
    aten.rsub.Scalar: lambda graph, a, b, alpha=1: _sub(graph, b, a, alpha),
    aten.mul.Tensor: _multiply,
    aten.mul.Scalar: _multiply,
    aten.div.Tensor: _divide,
    aten.div.Scalar: _divide,
    aten.neg.default: _unary("Neg"),
    aten.reciprocal.default: _unary("Reciprocal"),
    aten.tanh.default: _unary("Tanh"),
    aten.sigmoid.default: _unary("Sigmoid"),
    aten.relu.default: _unary("Relu"),
    aten.tanh_backward.default: _tanh_backward,
    aten.sigmoid_backward.default: _sigmoid_backward,
    aten.threshold_backward.default: _threshold_backward,
    aten.exp.default: _unary("Exp"),
    aten.expm1.default: _expm1,
    aten.log.default: _unary("Log"),
    aten.log1p.default: _log1p,
    aten.sqrt.default: _unary("Sqrt"),
    aten.rsqrt.default: _rsqrt,
    aten.pow.Tensor_Scalar: _pow,
    aten.pow.Tensor_Tensor: _pow,
    aten.abs.default: _unary("Abs"),
    aten.sign.default: _unary("Sign"),
    aten.sgn.default: _unary("Sign"),
    aten.floor.default: _unary("Floor"),
    aten.ceil.default: _unary("Ceil"),
    aten.round.default: _unary("Round"),
    aten.trunc.default: _trunc,
    aten.sin.default: _unary("Sin"),
    aten.cos.default: _unary("Cos"),
    aten.atan.default: _unary("Atan"),
    aten.sinh.default: _unary("Sinh"),
    aten.cosh.default: _unary("Cosh"),
    aten.erf.default: _unary("Erf"),
    aten.clamp.default: _clamp,
    aten.clamp.Tensor: _clamp,
    aten.clamp_min.default: _maximum,
    aten.clamp_max.default: _minimum,
    aten.maximum.default: _maximum,
    aten.minimum.default: _minimum,
    aten.where.self: _where,
    aten.masked_fill.Scalar: lambda graph, x, mask, value: _where(graph, mask, value, x),
    aten.masked_fill.Tensor: lambda graph, x, mask, value: _where(graph, mask, value, x),
    aten.isnan.default: lambda graph, x: Value(graph.op("IsNaN", graph.numbers(x)), is_bool=True),
    aten.logical_and.default: _logical("And"),
    aten.bitwise_and.Tensor: _logical("And"),
    aten.logical_or.default: _logical("Or"),
    aten.bitwise_or.Tensor: _logical("Or"),
    aten.logical_xor.default: _logical("Xor"),
    aten.bitwise_xor.Tensor: _logical("Xor"),
    aten.logical_not.default: _not,
    aten.bitwise_not.default: _not,
    aten.expand.default: _expand,
    aten.to.dtype: _convert,
    **{
        getattr(getattr(aten, name), kind): _comparison(operator)
        for name, operator in {
            "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual", "eq": "Equal",
        }.items()
        for kind in ("Tensor", "Scalar")
    },
    **{
        getattr(aten.ne, kind): lambda graph, a, b: _not(graph, _comparison("Equal")(graph, a, b))
        for kind in ("Tensor", "Scalar")
    },
}  # fmt: skip


def _reduction(name: str) -> Operation:
    def reduce(graph: OnnxGraph, x: Value, dims: Sequence[int], keepdim: bool = False, **_: Any) -> Value:
        return Value(graph.op(name, graph.numbers(x), graph.ints(*dims), keepdims=int(keepdim)))

    return reduce


#: reductions over the columns of a row
REDUCE: dict[Any, Operation] = {
    aten.sum.dim_IntList: _reduction("ReduceSum"),
    aten.amax.default: _reduction("ReduceMax"),
    aten.amin.default: _reduction("ReduceMin"),
}


# Products and arrangements of columns. Each takes the node, too, for its shape.


def _product(graph: OnnxGraph, node: Node, x: Value, weight: Value) -> Value:
    return Value(graph.op("MatMul", graph.numbers(x), graph.numbers(weight)))


def _biased_product(graph: OnnxGraph, node: Node, bias: Value, x: Value, weight: Value) -> Value:
    return Value(graph.op("Gemm", graph.numbers(x), graph.numbers(weight), graph.numbers(bias)))


def _constant(graph: OnnxGraph, node: Node, shape: Sequence[int], number: float, dtype: torch.dtype) -> Value:
    value = graph.tensor(torch.tensor(number, dtype=dtype))
    target = graph.join(graph.batch(), *([graph.ints(*shape[1:])] if shape[1:] else []))
    return Value(graph.op("Expand", value.name, target), value.is_bool)


def _reshape(graph: OnnxGraph, node: Node, x: Value, *_: Any) -> Value:
    return x._replace(name=graph.op("Reshape", x.name, graph.ints(-1, *shape_of(node)[1:])))


def _slice(
    graph: OnnxGraph,
    node: Node,
    x: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    limits = (graph.ints(value) for value in (start or 0, LAST if end is None else min(end, LAST), dim, step))
    return x._replace(name=graph.op("Slice", x.name, *limits))


LAST = 2**31 - 1


def _select(graph: OnnxGraph, node: Node, x: Value, dim: int, index: int) -> Value:
    return x._replace(name=graph.op("Gather", x.name, graph.array(_scalar(index), "index"), axis=dim))


def _scalar(index: int) -> Any:
    return torch.tensor(index).numpy()


def _split(graph: OnnxGraph, node: Node, x: Value, size: int | Sequence[int], dim: int = 0) -> list[Value]:
    total = shape_of(node.all_input_nodes[0])[dim]
    sizes = [min(size, total - i) for i in range(0, total, size)] if isinstance(size, int) else list(size)
    return [x._replace(name=name) for name in graph.ops("Split", (x.name, graph.ints(*sizes)), len(sizes), axis=dim)]


def _unbind(graph: OnnxGraph, node: Node, x: Value, dim: int = 0) -> list[Value]:
    return [_select(graph, node, x, dim, index) for index in range(shape_of(node.all_input_nodes[0])[dim])]


def _cat(graph: OnnxGraph, node: Node, values: Sequence[Value], dim: int = 0) -> Value:
    is_bool = all(value.is_bool for value in values)
    names = [value.name if is_bool else graph.numbers(value) for value in values]
    return Value(graph.join(*names, axis=dim), is_bool)


def _stack(graph: OnnxGraph, node: Node, values: Sequence[Value], dim: int = 0) -> Value:
    axes = graph.ints(dim)
    return _cat(graph, node, [v._replace(name=graph.op("Unsqueeze", v.name, axes)) for v in values], dim)


ARRANGE: dict[Any, Arrangement] = {
    aten.mm.default: _product,
    aten.addmm.default: _biased_product,
    CONSTANT: _constant,
    aten.reshape.default: _reshape,
    aten.unsqueeze.default: _reshape,
    aten.squeeze.dim: _reshape,
    aten.squeeze.dims: _reshape,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.split.Tensor: _split,
    aten.unsafe_split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    aten.unbind.int: _unbind,
    operator.getitem: lambda graph, node, values, index: values[index],
    aten.cat.default: _cat,
    aten.stack.default: _stack,
}
