"""Records the operations that torch dispatches, below autograd, as one graph."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from elman.engine.torch_private import DispatchMode
from elman.engine.trace import batch_axis, batch_rewrites
from elman.engine.trace.aten import (
    CONSTANT,
    CONVERSION,
    COPY,
    FILL,
    UNINITIALIZED,
    UNSUPPORTED_BY_DTYPE,
    decomposition,
    functional_variant,
    is_exact_conversion,
    mutated_tensors,
    overlaps,
    tensors_in,
)
from elman.engine.trace.batch_axis import AxisLayout
from elman.engine.trace.errors import CannotCapture, current_line
from elman.engine.trace.permute import permute
from elman.engine.trace.random_ops import PROBABILITY_TENSOR, RANDOM_METHODS, WITH_NUMBERS, RandomOp
from elman.engine.trace.values import line_of, set_line, set_name, set_shape, shape_of

aten = torch.ops.aten


class Recorder(DispatchMode):
    """A mode that records every operation on its inputs in `graph`, and every random operation in `draws`.

    Args:
        batch: The batch size, which must differ from the size of every other axis.

    Raises:
        CannotCapture: from within an operation that cannot be recorded.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.graph = fx.Graph()
        self.draws: list[RandomOp] = []
        self._nodes: dict[int, fx.Node] = {}  # by the id of a tensor
        self._layouts: dict[int, AxisLayout] = {}  # of tensors with a moved batch axis, of which only rows are recorded
        self._alive: list[Tensor] = []  # keeps the tensors alive, so that their ids stay unique
        self._protected: set[int] = set()  # addresses of memory that a step must not write to
        self._stale: set[int] = set()  # tensors that were written to through another tensor

    def add_input(self, tensor: Tensor) -> None:
        """Add a placeholder for a tensor, after those there are."""
        inputs = list(self.graph.find_nodes(op="placeholder"))
        with self.graph.inserting_after(inputs[-1]) if inputs else self.graph.inserting_before():
            self._bind(tensor, self.graph.placeholder("input"))

    def protect(self, tensor: Tensor) -> None:
        """Refuse steps that write to a tensor or to a view of it."""
        self._protected.add(tensor.untyped_storage().data_ptr())

    def set_name(self, tensor: Tensor, name: str) -> None:
        """Store the name that the cell gives a tensor, for descriptions of the plan."""
        if (node := self._nodes.get(id(tensor))) is not None:
            set_name(node, name)

    def node_of(self, tensor: Tensor) -> fx.Node:
        """Return the node of a tensor.

        Raises:
            CannotCapture: for a tensor that is neither an input nor computed from inputs.
        """
        self._check_fresh(tensor)
        if id(tensor) in self._layouts:
            self._bind(tensor, self._materialize(tensor))
        node = self._nodes.get(id(tensor))
        if node is None and not tensor.is_floating_point():
            raise CannotCapture(f"a tensor of {tensor.dtype} that is not computed from x or the states{current_line()}")
        if node is None:
            raise CannotCapture(
                f"a tensor of shape {tuple(tensor.shape)} that is not a parameter or buffer{current_line()}"
            )
        return node

    def layout_of(self, tensor: Tensor) -> AxisLayout | None:
        """Return the layout of a tensor that consists of rows of the batch; None for any other."""
        self._check_fresh(tensor)
        if tensor.shape[:1] == (self.batch,) and id(tensor) in self._nodes:
            return batch_axis.unmoved_layout(tensor)
        return self._layouts.get(id(tensor))

    def _check_fresh(self, tensor: Tensor) -> None:
        if id(tensor) in self._stale:
            raise CannotCapture(
                f"a tensor that is used after a view of it, or its base, was written to{current_line()}"
            )

    def _bind(self, tensor: Tensor, node: fx.Node) -> None:
        """Make a node the one of a tensor."""
        self._layouts.pop(id(tensor), None)
        self._nodes[id(tensor)] = node
        self._stale.discard(id(tensor))
        self._alive.append(tensor)
        set_shape(node, tuple(tensor.shape))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # The mode is off in here. `with self` turns it on again, so that the operations within are recorded as well.
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            raise CannotCapture(f"a Python number read from a tensor{current_line()}")
        for tensor in mutated_tensors(func, args) if func._schema.is_mutable else ():
            if tensor.untyped_storage().data_ptr() in self._protected:
                raise CannotCapture(
                    f"{func}, which writes into an input, a state, a parameter or a buffer{current_line()}"
                )
            self._stale |= {id(other) for other in self._alive if other is not tensor and overlaps(other, tensor)}
        if (decomposed := decomposition(func, args, kwargs)) is not None:
            with self:
                return decomposed(*args, **kwargs)
        if func in batch_axis.VIEWS and (node := self._nodes.get(id(args[0]))) and node.target is CONSTANT:
            result = func(*args, **kwargs)
            for tensor in _tensors(result):
                self._record_constant(tensor, node.args[1])
            return result
        if (sources := self._rewrite(func, args, kwargs)) is not None:
            result = func(*args, **kwargs)
            for tensor, source in zip(_tensors(result), sources, strict=True):
                self._bind_same(tensor, source)
            return result
        result = func(*args, **kwargs)
        if func in RANDOM_METHODS:
            self._record_draw(func, args, result)
        elif func in COPY and args[0].dtype == result.dtype:
            self._bind_same(result, args[0])
        elif func in FILL or func in UNINITIALIZED:
            first = result.flatten()[0].item() if func in FILL and result.numel() else 0.0
            self._record_constant(result, float("nan") if func in UNINITIALIZED else first)
        elif result is not None:  # operations without a result are assertions
            self._record(func, args, kwargs, result)
        return result

    def _record(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Add an operation to the graph, and bind its results."""
        is_conversion = func in COPY and is_exact_conversion(args[0].dtype, result.dtype)
        target = CONVERSION if is_conversion else functional_variant(func)
        if target is CONVERSION:
            args, kwargs = (args[0], result.dtype), {}
        elif isinstance(result, Tensor) and target in UNSUPPORTED_BY_DTYPE.get(result.dtype, ()):
            raise CannotCapture(
                f"{target} that gives {result.dtype}, which is not one of the supported operations{current_line()}"
            )
        arguments = fx.node.map_aggregate((args, kwargs), lambda a: self.node_of(a) if isinstance(a, Tensor) else a)
        node = self.graph.call_function(target, *arguments)
        set_line(node, current_line())
        if isinstance(result, Tensor):
            self._bind(result, node)
            return
        for i, tensor in enumerate(result):
            if isinstance(tensor, Tensor):
                item = self.graph.call_function(operator.getitem, (node, i))
                set_line(item, line_of(node))
                self._bind(tensor, item)

    def _record_constant(self, tensor: Tensor, number: Any) -> None:
        self._bind(tensor, self.graph.call_function(CONSTANT, (list(tensor.shape), number), {"dtype": tensor.dtype}))

    def _bind_same(self, tensor: Tensor, source: Tensor | AxisLayout) -> None:
        """Bind a tensor to the node or layout of another that equals it, or to a layout."""
        if isinstance(source, Tensor) and id(source) not in self._layouts:
            self._bind(tensor, self.node_of(source))
            return
        layout = self._layouts[id(source)] if isinstance(source, Tensor) else source
        if layout.is_unmoved:
            with self:
                self._bind_same(tensor, batch_axis.reshape(layout.rows, tensor.shape))
            return
        self._nodes.pop(id(tensor), None)
        self._stale.discard(id(tensor))
        self._layouts[id(tensor)] = layout
        self._alive.append(tensor)

    def _rewrite(self, func: Any, args: Any, kwargs: Any) -> Sequence[Tensor | AxisLayout] | None:
        """Rewrite an operation as operations on rows; returns what its results equal, None if none is moved."""
        is_any_moved = any(id(tensor) in self._layouts for tensor in tensors_in(args, kwargs))
        if func in batch_axis.VIEWS:
            layout = self.layout_of(args[0])
            if layout is None or not (is_any_moved or func in batch_axis.MAY_MOVE_BATCH):
                return None
            results = _tensors(func(*args, **kwargs))
            if not is_any_moved and func in batch_axis.RESHAPES and results[0].shape[0] == self.batch:
                return None
            with self:
                return batch_axis.view_layouts(func, layout, args, kwargs, results)
        if not is_any_moved and func not in batch_rewrites.MAY_MOVE_BATCH:
            return None
        try:
            with self:
                rewritten = batch_rewrites.rewrite(self, functional_variant(func), args, kwargs)
        except batch_axis.NoRewrite as reason:
            raise CannotCapture(f"{reason}{current_line()}") from None
        return None if rewritten is None else [rewritten]

    def _materialize(self, tensor: Tensor) -> fx.Node:
        """Record a moved tensor with its axes as torch has them, for an operation that is not rewritten on rows."""
        layout, shape = self._layouts[id(tensor)], tuple(tensor.shape)
        axis, rows, line = layout.batch, self.node_of(layout.rows), current_line()

        def call(target: Any, *args: Any) -> fx.Node:
            node = self.graph.call_function(target, args)
            set_line(node, line)
            return node

        singletons = [i for i, size in enumerate(layout.rows.shape) if size == 1]
        if layout.axes[axis] != (0,):  # the batch shares an axis with others
            return call(
                aten.reshape.default, call(aten.permute.default, rows, [*layout.order, *singletons]), list(shape)
            )
        rows = permute(rows, [0, *(i for i in layout.order if i), *singletons])
        batch_first = shape[axis], *shape[:axis], *shape[axis + 1 :]
        if shape_of(rows) != batch_first:
            rows = call(aten.reshape.default, rows, list(batch_first))
        if len(shape) == 2 and axis:
            return call(aten.t.default, rows)
        dims = [*range(1, axis + 1), 0, *range(axis + 1, len(shape))]
        return call(aten.permute.default, rows, dims) if axis else rows

    def _record_draw(self, func: Any, args: Sequence[Any], result: Tensor) -> None:
        numbers, probability = tuple(args[1:]) if func in WITH_NUMBERS else (), None
        if func is PROBABILITY_TENSOR:
            node = self.node_of(args[0])
            if node.target is not CONSTANT:
                raise CannotCapture(f"{func} of computed probabilities{current_line()}")
            probability = node.args[1]
        dtype = None if result.dtype == torch.float64 else result.dtype  # steps are captured in double precision
        self.draws.append(RandomOp(RANDOM_METHODS[func], numbers, probability, tuple(result.shape), dtype))  # type: ignore[arg-type]
        self.add_input(result)


def _tensors(result: Any) -> Sequence[Tensor]:
    """Return the results of an operation as a sequence, whether there is one or several."""
    return [result] if isinstance(result, Tensor) else result
