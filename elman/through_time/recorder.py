"""Writing down what torch does: operations as they are dispatched, below autograd, as one graph."""

import operator
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx
from torch._C import DispatchKey
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from elman.through_time import activations, moved, rewriting  # noqa: F401 - activations fills the table
from elman.through_time.decompositions import DECOMPOSITIONS, addmm, sums_in_two
from elman.through_time.draws import METHODS, NUMBERS, OF_A_TENSOR, Draw
from elman.through_time.moved import Form
from elman.through_time.reordered import reordered

aten = torch.ops.aten

CONSTANT = aten.full.default  # as which every tensor of one known number is written down
FILLED = {
    aten.zeros.default, aten.ones.default, aten.full.default, aten.zeros_like.default, aten.ones_like.default,
    aten.full_like.default, aten.new_zeros.default, aten.new_ones.default, aten.new_full.default,
    aten.scalar_tensor.default, aten.fill_.Scalar, aten.zero_.default,
}  # fmt: skip
EMPTY = {aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default}
SAME = {aten.detach.default, aten.alias.default, aten.clone.default, aten.lift_fresh.default, aten._to_copy.default}
CONVERSION = aten.to.dtype
# What means something else where it makes no fractions but conditions, or whole numbers.
BITWISE = {aten.bitwise_and.Tensor, aten.bitwise_or.Tensor, aten.bitwise_xor.Tensor, aten.bitwise_not.default}
OTHERWISE = {
    torch.bool: {aten.add.Tensor, aten.add.Scalar, aten.sum.dim_IntList},
    torch.int32: BITWISE,
    torch.int64: BITWISE,
}
OURS = str(Path(__file__).parent), str(Path(torch.__file__).parent)  # where operations are no lines of the cell's
BEGIN = str(Path(__file__).with_name("capture.py"))  # from where a step is called


class CannotCapture(Exception):
    """The step is no fixed graph of operations; the message says which operation of which line is in the way."""


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
        self.draws: list[Draw] = []
        self._nodes: dict[int, fx.Node] = {}
        self._forms: dict[int, Form] = {}  # of tensors that are written down as the rows that they are made of
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
        node.meta["shape"] = tuple(tensor.shape)

    def describe(self, tensor: Tensor, name: str) -> None:
        """Note what a cell calls a tensor, for those who read of it."""
        if (node := self._nodes.get(id(tensor))) is not None:
            node.meta["called"] = name

    def named(self, tensor: Tensor) -> fx.Node:
        """The node of a tensor; CannotCapture for one that came from elsewhere."""
        self._check_fresh(tensor)
        if id(tensor) in self._forms:
            self.name(tensor, self._written(tensor))
        node = self._nodes.get(id(tensor))
        if node is None and not tensor.is_floating_point():
            raise CannotCapture(f"numbers of {tensor.dtype}, that are no part of x or of the states{line()}")
        if node is None:
            raise CannotCapture(f"a tensor of shape {tuple(tensor.shape)} that is no parameter or buffer{line()}")
        return node

    def _check_fresh(self, tensor: Tensor) -> None:
        if id(tensor) in self._stale:
            raise CannotCapture(f"a tensor that is used after a view of it was written to, or its base{line()}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            raise CannotCapture(f"a number read out of a tensor{line()}")
        for tensor in _overwritten(func, args) if func._schema.is_mutable else ():
            if tensor.untyped_storage().data_ptr() in self._given:
                raise CannotCapture(f"{func}, which writes into an input, a state, a parameter or a buffer{line()}")
            self._stale |= {id(other) for other in self._alive if other is not tensor and _overlap(other, tensor)}
        if (smaller := _smaller(func, args, kwargs)) is not None:
            with self:
                return smaller(*args, **kwargs)
        if func in moved.VIEWS and (node := self._nodes.get(id(args[0]))) and node.target is CONSTANT:
            result = func(*args, **kwargs)
            for piece in [result] if isinstance(result, Tensor) else result:
                self._constant(piece, node.args[1])
            return result
        if (made := self._made_of_rows(func, args, kwargs)) is not None:
            result = func(*args, **kwargs)
            for piece, same in zip([result] if isinstance(result, Tensor) else result, made, strict=True):
                self._call(piece, same)
            return result
        result = func(*args, **kwargs)
        if result is None:  # it has checked something
            return None
        if func in METHODS:
            self._draw(func, args, result)
            return result
        if func in SAME and args[0].dtype == result.dtype:
            self._call(result, args[0])
            return result
        if func in FILLED or func in EMPTY:
            number = float("nan") if func in EMPTY else result.flatten()[0].item() if result.numel() else 0.0
            self._constant(result, number)
            return result
        written = CONVERSION if func in SAME and _exact(args[0].dtype, result.dtype) else _functional(func)
        if written is CONVERSION:
            args, kwargs = (args[0], result.dtype), {}
        elif isinstance(result, Tensor) and written in OTHERWISE.get(result.dtype, ()):
            raise CannotCapture(f"{written} that gives {result.dtype}, which is not in the table of operations{line()}")
        given = fx.node.map_aggregate((args, kwargs), lambda a: self.named(a) if isinstance(a, Tensor) else a)
        node = self.graph.call_function(written, *given)
        node.meta["line"] = line()
        if isinstance(result, Tensor):
            self.name(result, node)
        else:
            for i, piece in enumerate(result):
                if isinstance(piece, Tensor):
                    item = self.graph.call_function(operator.getitem, (node, i))
                    item.meta["line"] = node.meta["line"]
                    self.name(piece, item)
        return result

    def _constant(self, tensor: Tensor, number: Any) -> None:
        self.name(tensor, self.graph.call_function(CONSTANT, (list(tensor.shape), number), {"dtype": tensor.dtype}))

    def form(self, tensor: Tensor) -> Form | None:
        """The form of what is made of rows."""
        self._check_fresh(tensor)
        if tensor.shape[:1] == (self.batch,) and id(tensor) in self._nodes:
            return moved.unmoved(tensor)
        return self._forms.get(id(tensor))

    def _call(self, tensor: Tensor, same: Tensor | Form) -> None:
        """Call a tensor what another is called, or by its form."""
        if isinstance(same, Tensor) and id(same) not in self._forms:
            self.name(tensor, self.named(same))
            return
        form = self._forms[id(same)] if isinstance(same, Tensor) else same
        if form.unmoved:
            with self:
                self._call(tensor, moved.shaped(form.rows, tensor.shape))
            return
        self._nodes.pop(id(tensor), None)
        self._stale.discard(id(tensor))
        self._forms[id(tensor)] = form
        self._alive.append(tensor)

    def _made_of_rows(self, func: Any, args: Any, kwargs: Any) -> Sequence[Tensor | Form] | None:
        """What the results of an operation are, in operations on rows; None for what is no operation on moved rows."""
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        some = any(id(tensor) in self._forms for tensor in tensors)
        if func in moved.VIEWS:
            form = self.form(args[0])
            if form is None or not (some or func in moved.MOVING):
                return None
            results = func(*args, **kwargs)
            results = [results] if isinstance(results, Tensor) else results
            if not some and func in moved.SHAPED and results[0].shape[0] == self.batch:
                return None
            with self:
                return moved.views(func, form, args, kwargs, results)
        if not some and func not in rewriting.MOVING:
            return None
        try:
            with self:
                made = rewriting.rewritten(self, _functional(func), args, kwargs)
        except moved.Unsaid as what:
            raise CannotCapture(f"{what}{line()}") from None
        return None if made is None else [made]

    def _written(self, tensor: Tensor) -> fx.Node:
        """A moved tensor as torch has it, for an operation that is not known to be one on rows."""
        form, shape = self._forms[id(tensor)], tuple(tensor.shape)
        at, rows, where = form.batch, self.named(form.rows), line()

        def put(target: Any, *args: Any) -> fx.Node:
            node = self.graph.call_function(target, args)
            node.meta["line"] = where
            return node

        single = [i for i, size in enumerate(form.rows.shape) if size == 1]
        if form.axes[at] != (0,):
            return put(aten.reshape.default, put(aten.permute.default, rows, [*form.order, *single]), list(shape))
        rows = reordered(rows, [0, *(i for i in form.order if i), *single])
        front = shape[at], *shape[:at], *shape[at + 1 :]
        if rows.meta["shape"] != front:
            rows = put(aten.reshape.default, rows, list(front))
        if len(shape) == 2 and at:
            return put(aten.t.default, rows)
        return put(aten.permute.default, rows, [*range(1, at + 1), 0, *range(at + 1, len(shape))]) if at else rows

    def _draw(self, func: Any, args: Sequence[Any], result: Tensor) -> None:
        numbers, probability = tuple(args[1:]) if func in NUMBERS else (), None
        if func is OF_A_TENSOR:
            given = self.named(args[0])
            if given.target is not CONSTANT:
                raise CannotCapture(f"{func} of probabilities that are computed{line()}")
            probability = given.args[1]
        dtype = None if result.dtype == torch.float64 else result.dtype  # captured is in double precision
        self.draws.append(Draw(METHODS[func], numbers, probability, tuple(result.shape), dtype))  # type: ignore[arg-type]
        self.input(result)


def _smaller(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The function that does what an operation does in smaller ones, if there is one."""
    if func is aten.sum.dim_IntList:
        dims = [dim % args[0].dim() for dim in args[1] or range(args[0].dim())]
        return sums_in_two if 0 in dims and len(dims) > 1 else None
    if func is aten.slice_backward.default and args[-1] != 1:
        return None
    if func is aten.addmm.default:
        return addmm if kwargs or args[0].dim() > 1 else None
    if func.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd):
        return func.decompose
    return DECOMPOSITIONS.get(func)


def _overwritten(func: Any, args: Sequence[Any]) -> list[Tensor]:
    """The tensors that an operation writes into."""
    pairs = zip(func._schema.arguments, args, strict=False)
    return [value for spec, value in pairs if spec.is_out or (spec.alias_info is not None and spec.alias_info.is_write)]


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have a number in memory in common."""
    memory = a.untyped_storage()
    if memory.data_ptr() != b.untyped_storage().data_ptr():
        return False
    touched = torch.zeros(memory.nbytes() // a.element_size(), dtype=torch.bool)
    touched.as_strided(a.shape, a.stride(), a.storage_offset()).fill_(True)
    return bool(touched.as_strided(b.shape, b.stride(), b.storage_offset()).any())


def _exact(of: torch.dtype, to: torch.dtype) -> bool:
    """Whether a conversion leaves every number what it is."""
    return not (of.is_floating_point or of.is_complex) and to in (
        torch.float32,
        torch.float64,
        torch.int32,
        torch.int64,
    )


def _functional(func: Any) -> Any:
    """The operation that returns what this one writes in place; itself, if it writes nothing."""
    if func in (aten.view.default, aten._unsafe_view.default):
        return aten.reshape.default  # copies that make a view possible are not written down
    if not func._schema.is_mutable:
        return func
    name, overload = func._schema.name.split("::")[1], func._schema.overload_name or "default"
    packet = getattr(aten, name.rstrip("_"), None)
    if not name.endswith("_") or packet is None or overload not in packet.overloads():
        raise CannotCapture(f"{func}, which writes into a tensor{line()}")
    return getattr(packet, overload)


def line_of(node: fx.Node) -> str:
    """Where in the cell's own code an operation stands, for the end of a message."""
    return node.meta.get("line") or " (in the backward step)"


def line() -> str:
    """Where in the cell's own code the operation now being recorded stands, " (file, line n)"."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code.co_filename != BEGIN:
        if not frame.f_code.co_filename.startswith(OURS):
            return f" ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""
