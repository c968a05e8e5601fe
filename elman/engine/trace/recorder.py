"""Records the operations that torch dispatches, below autograd, as one graph."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from elman.engine.torch_private import TorchDispatchMode, tree_leaves
from elman.engine.trace import batch_axis, batch_rewrites
from elman.engine.trace.aten import (
    CONSTANT,
    CONVERSION,
    EMPTY,
    FILLED,
    OTHERWISE,
    SAME,
    exact,
    functional,
    overlap,
    overwritten,
    smaller,
)
from elman.engine.trace.batch_axis import AxisLayout
from elman.engine.trace.errors import CannotCapture, current_line
from elman.engine.trace.permute import reordered
from elman.engine.trace.random_ops import METHODS, NUMBERS, OF_A_TENSOR, RandomOp
from elman.engine.trace.values import line_of, set_line, set_name, set_shape, shape_of

aten = torch.ops.aten


class Recorder(TorchDispatchMode):
    """Under it, every operation on the tensors that were given is written into `graph`, and what is drawn to `draws`.

    Args:
        batch: its size, which is that of no other axis.

    Raises:
        CannotCapture: from within an operation that cannot be written down.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operation imports the whole of torch.compile

    def __init__(self, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch = batch
        self.graph = fx.Graph()
        self.draws: list[RandomOp] = []
        self._nodes: dict[int, fx.Node] = {}
        self._forms: dict[int, AxisLayout] = {}  # of tensors that are written down as the rows that they are made of
        self._alive: list[Tensor] = []  # an id is a name only while its tensor lives
        self._given: set[int] = set()  # where the memory of what a step must not write to begins
        self._stale: set[int] = set()  # tensors that were written to by another name

    def input(self, tensor: Tensor) -> None:
        """Make a tensor the next placeholder of the graph."""
        inputs = list(self.graph.find_nodes(op="placeholder"))
        with self.graph.inserting_after(inputs[-1]) if inputs else self.graph.inserting_before():
            self.name(tensor, self.graph.placeholder("input"))

    def given(self, tensor: Tensor) -> None:
        """A step that writes to this tensor, or to a view of it, cannot be written down."""
        self._given.add(tensor.untyped_storage().data_ptr())

    def name(self, tensor: Tensor, node: fx.Node) -> None:
        """Call a tensor by a node."""
        self._forms.pop(id(tensor), None)
        self._nodes[id(tensor)] = node
        self._stale.discard(id(tensor))
        self._alive.append(tensor)
        set_shape(node, tuple(tensor.shape))

    def describe(self, tensor: Tensor, name: str) -> None:
        """Note what a cell calls a tensor, for those who read of it."""
        if (node := self._nodes.get(id(tensor))) is not None:
            set_name(node, name)

    def named(self, tensor: Tensor) -> fx.Node:
        """The node of a tensor; CannotCapture for one that came from elsewhere."""
        self._check_fresh(tensor)
        if id(tensor) in self._forms:
            self.name(tensor, self._written(tensor))
        node = self._nodes.get(id(tensor))
        if node is None and not tensor.is_floating_point():
            raise CannotCapture(f"numbers of {tensor.dtype}, that are no part of x or of the states{current_line()}")
        if node is None:
            raise CannotCapture(
                f"a tensor of shape {tuple(tensor.shape)} that is no parameter or buffer{current_line()}"
            )
        return node

    def _check_fresh(self, tensor: Tensor) -> None:
        if id(tensor) in self._stale:
            raise CannotCapture(f"a tensor that is used after a view of it was written to, or its base{current_line()}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            raise CannotCapture(f"a number read out of a tensor{current_line()}")
        for tensor in overwritten(func, args) if func._schema.is_mutable else ():
            if tensor.untyped_storage().data_ptr() in self._given:
                raise CannotCapture(
                    f"{func}, which writes into an input, a state, a parameter or a buffer{current_line()}"
                )
            self._stale |= {id(other) for other in self._alive if other is not tensor and overlap(other, tensor)}
        if (in_smaller := smaller(func, args, kwargs)) is not None:
            with self:
                return in_smaller(*args, **kwargs)
        if func in batch_axis.VIEWS and (node := self._nodes.get(id(args[0]))) and node.target is CONSTANT:
            result = func(*args, **kwargs)
            for piece in _each(result):
                self._constant(piece, node.args[1])
            return result
        if (made := self._made_of_rows(func, args, kwargs)) is not None:
            result = func(*args, **kwargs)
            for piece, same in zip(_each(result), made, strict=True):
                self._call(piece, same)
            return result
        result = func(*args, **kwargs)
        if func in METHODS:
            self._draw(func, args, result)
        elif func in SAME and args[0].dtype == result.dtype:
            self._call(result, args[0])
        elif func in FILLED or func in EMPTY:
            number = float("nan") if func in EMPTY else result.flatten()[0].item() if result.numel() else 0.0
            self._constant(result, number)
        elif result is not None:  # else it has checked something
            self._write_down(func, args, kwargs, result)
        return result

    def _write_down(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Make an operation a node of the graph, and call what it has returned by it."""
        written = CONVERSION if func in SAME and exact(args[0].dtype, result.dtype) else functional(func)
        if written is CONVERSION:
            args, kwargs = (args[0], result.dtype), {}
        elif isinstance(result, Tensor) and written in OTHERWISE.get(result.dtype, ()):
            raise CannotCapture(
                f"{written} that gives {result.dtype}, which is not in the table of operations{current_line()}"
            )
        given = fx.node.map_aggregate((args, kwargs), lambda a: self.named(a) if isinstance(a, Tensor) else a)
        node = self.graph.call_function(written, *given)
        set_line(node, current_line())
        if isinstance(result, Tensor):
            self.name(result, node)
            return
        for i, piece in enumerate(result):
            if isinstance(piece, Tensor):
                item = self.graph.call_function(operator.getitem, (node, i))
                set_line(item, line_of(node))
                self.name(piece, item)

    def _constant(self, tensor: Tensor, number: Any) -> None:
        self.name(tensor, self.graph.call_function(CONSTANT, (list(tensor.shape), number), {"dtype": tensor.dtype}))

    def form(self, tensor: Tensor) -> AxisLayout | None:
        """The form of what is made of rows."""
        self._check_fresh(tensor)
        if tensor.shape[:1] == (self.batch,) and id(tensor) in self._nodes:
            return batch_axis.unmoved(tensor)
        return self._forms.get(id(tensor))

    def _call(self, tensor: Tensor, same: Tensor | AxisLayout) -> None:
        """Call a tensor what another is called, or by its form."""
        if isinstance(same, Tensor) and id(same) not in self._forms:
            self.name(tensor, self.named(same))
            return
        form = self._forms[id(same)] if isinstance(same, Tensor) else same
        if form.unmoved:
            with self:
                self._call(tensor, batch_axis.shaped(form.rows, tensor.shape))
            return
        self._nodes.pop(id(tensor), None)
        self._stale.discard(id(tensor))
        self._forms[id(tensor)] = form
        self._alive.append(tensor)

    def _made_of_rows(self, func: Any, args: Any, kwargs: Any) -> Sequence[Tensor | AxisLayout] | None:
        """What the results of an operation are, in operations on rows; None for what is no operation on moved rows."""
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        some = any(id(tensor) in self._forms for tensor in tensors)
        if func in batch_axis.VIEWS:
            form = self.form(args[0])
            if form is None or not (some or func in batch_axis.MOVING):
                return None
            results = _each(func(*args, **kwargs))
            if not some and func in batch_axis.SHAPED and results[0].shape[0] == self.batch:
                return None
            with self:
                return batch_axis.views(func, form, args, kwargs, results)
        if not some and func not in batch_rewrites.MOVING:
            return None
        try:
            with self:
                made = batch_rewrites.rewritten(self, functional(func), args, kwargs)
        except batch_axis.NoRewrite as what:
            raise CannotCapture(f"{what}{current_line()}") from None
        return None if made is None else [made]

    def _written(self, tensor: Tensor) -> fx.Node:
        """A moved tensor as torch has it, for an operation that is not known to be one on rows."""
        form, shape = self._forms[id(tensor)], tuple(tensor.shape)
        at, rows, where = form.batch, self.named(form.rows), current_line()

        def put(target: Any, *args: Any) -> fx.Node:
            node = self.graph.call_function(target, args)
            set_line(node, where)
            return node

        single = [i for i, size in enumerate(form.rows.shape) if size == 1]
        if form.axes[at] != (0,):
            return put(aten.reshape.default, put(aten.permute.default, rows, [*form.order, *single]), list(shape))
        rows = reordered(rows, [0, *(i for i in form.order if i), *single])
        front = shape[at], *shape[:at], *shape[at + 1 :]
        if shape_of(rows) != front:
            rows = put(aten.reshape.default, rows, list(front))
        if len(shape) == 2 and at:
            return put(aten.t.default, rows)
        return put(aten.permute.default, rows, [*range(1, at + 1), 0, *range(at + 1, len(shape))]) if at else rows

    def _draw(self, func: Any, args: Sequence[Any], result: Tensor) -> None:
        numbers, probability = tuple(args[1:]) if func in NUMBERS else (), None
        if func is OF_A_TENSOR:
            given = self.named(args[0])
            if given.target is not CONSTANT:
                raise CannotCapture(f"{func} of probabilities that are computed{current_line()}")
            probability = given.args[1]
        dtype = None if result.dtype == torch.float64 else result.dtype  # captured is in double precision
        self.draws.append(RandomOp(METHODS[func], numbers, probability, tuple(result.shape), dtype))  # type: ignore[arg-type]
        self.input(result)


def _each(result: Any) -> Sequence[Tensor]:
    """The tensors that an operation returns, whether one or several."""
    return [result] if isinstance(result, Tensor) else result
