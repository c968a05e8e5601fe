"""One step of a cell, and its vector-Jacobian product, as one graph of torch's own small operations.

The step is run once on small random numbers, and what torch does is written down as it is dispatched: below autograd,
so the backward step is seen as well. Against `make_fx` this saves importing sympy (a second, in a process that would
else need milliseconds), and views, copies and operations in place never enter the graph.
"""

import operator
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._C import DispatchKey
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from elman.through_time import decompositions
from elman.through_time.decompositions import DECOMPOSITIONS, addmm, sums_in_two
from elman.through_time.loop import State

aten = torch.ops.aten

CONSTANT = aten.full.default  # as which every tensor of one known number is written down
FILLED = {
    aten.zeros.default, aten.ones.default, aten.full.default, aten.zeros_like.default, aten.ones_like.default,
    aten.full_like.default, aten.new_zeros.default, aten.new_ones.default, aten.new_full.default,
    aten.scalar_tensor.default, aten.fill_.Scalar, aten.zero_.default,
}  # fmt: skip
EMPTY = {aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default}
SAME = {aten.detach.default, aten.alias.default, aten.clone.default, aten.lift_fresh.default, aten._to_copy.default}
# Sizes to tell the batch by; others, for cells with slices, say, whose width happens to be one of the first.
MARKERS = (3, 5, 7, 11, 13), (37, 41, 43, 47, 53)
PERIOD = 10007  # random numbers, after which they come again: a prime, so that no row repeats another
TORCH = str(Path(torch.__file__).parent)


class CannotCapture(Exception):
    """The step is no fixed graph of operations; the message says which operation of which line is in the way."""


@dataclass(frozen=True)
class Step:
    """A step and its vector-Jacobian product.

    The graph's placeholders are x (B, D), the states (B, H), the parameters and buffers, then a cotangent for each new
    state. Its output is four tuples: the new states, and the gradients of x (in a tuple of one), of the states and of
    the parameters; a gradient is None where nothing reaches it. `batch` stands for B wherever sizes are written out.
    """

    graph: fx.Graph
    batch: int
    parameters: tuple[str, ...]
    states: int


def capture(
    cell: nn.Module,
    shapes: Mapping[str, torch.Size],
    input_size: int,
    widths: Sequence[int],
    marker: Sequence[int] = MARKERS[0],
) -> Step:
    """Capture one step of a cell.

    Args:
        cell: `cell(x, state) -> state`.
        shapes: of its parameters and buffers, by name; their values do not matter.
        input_size: D.
        widths: of its states.
        marker: batch sizes, of which the first that is no width is taken: by it the batch is told from widths.

    Raises:
        CannotCapture: if the step is no fixed graph of operations on x, the states and the parameters.
    """
    taken = {input_size, *widths, *(size for shape in shapes.values() for size in shape)}
    batch = next(size for size in marker if size not in taken)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    count = len(widths)

    def step(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        state: State = rest[0] if count == 1 else rest[:count]
        named = dict(zip(shapes, rest[count:], strict=True))
        new = torch.func.functional_call(cell, named, (x, state))
        return (new,) if isinstance(new, Tensor) else tuple(new)

    with _ordinary_mode():
        pool = draw(PERIOD).repeat(2 + max((prod(shape) for shape in shapes.values()), default=0) // PERIOD)

        def inputs() -> list[Tensor]:
            # Drawing a million numbers takes longer than all else here: the parameters overlap in one piece of memory.
            begins = torch.randint(PERIOD, (len(shapes),), generator=generator).tolist()
            parameters = [pool[i : i + prod(s)].view(s) for i, s in zip(begins, shapes.values(), strict=True)]
            return [draw(batch, input_size), *(draw(batch, width) for width in widths), *parameters]

        try:
            graph = _recorded(step, inputs(), [draw(batch, width) for width in widths])
            found = Step(graph, batch, tuple(shapes), count)
            _check(found, step, inputs())
        except CannotCapture:
            raise
        except Exception as error:
            # The cell's own, or torch's about it. Where it is a mistake of the cell, the loop executor will tell.
            raise CannotCapture(f"a step on random numbers ended with {type(error).__name__}: {error}") from error
    names = ("x", *(f"state{i}" for i in range(count)), *shapes, *(f"d_state{i}" for i in range(count)))
    for node, name in zip(graph.find_nodes(op="placeholder"), names, strict=True):
        node.name = name.replace(".", "_")
    return found


@contextmanager
def _ordinary_mode() -> Iterator[None]:
    """Whatever the caller's modes are, the step is captured in none of them, and draws no random numbers of his."""
    ordinary = torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False)
    with (
        _disable_current_modes(), torch._C.DisableTorchFunction(), ordinary[0], ordinary[1], ordinary[2],
        torch.random.fork_rng(devices=()), torch.device("cpu"),
    ):  # fmt: skip
        yield


def _recorded(step: Any, inputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> fx.Graph:
    recorder = _Recorder()
    leaves = [tensor.requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    for tensor in (*leaves, *cotangents):
        recorder.name(tensor, recorder.graph.placeholder("input"))
    with recorder:
        new = step(*leaves)
    if [tuple(state.shape) for state in new] != [tuple(c.shape) for c in cotangents]:
        shapes = [tuple(state.shape) for state in new]
        raise CannotCapture(f"the step turns states of shapes {[tuple(c.shape) for c in cotangents]} into {shapes}")
    outputs = [recorder.named(state) for state in new]
    gradients: Sequence[Tensor | None] = [None] * len(leaves)
    if any(state.requires_grad for state in new):
        with recorder:
            gradients = torch.autograd.grad(_seed(new, cotangents), leaves, allow_unused=True)
    found = [None if g is None else recorder.named(g) for g in gradients]
    count = len(cotangents)
    recorder.graph.output((tuple(outputs), (found[0],), tuple(found[1 : 1 + count]), tuple(found[1 + count :])))
    recorder.graph.eliminate_dead_code()
    return recorder.graph


def _seed(new: Sequence[Tensor], cotangents: Sequence[Tensor]) -> Tensor:
    scalar: Tensor = _Seed.apply(len(new), *new, *cotangents)  # type: ignore[no-untyped-call]
    return scalar


class _Seed(torch.autograd.Function):
    """A scalar whose backward step begins with given cotangents, so that the graph begins there as well."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:
        ctx.cotangents = tensors[count:]
        return tensors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *ctx.cotangents, *(None for _ in ctx.cotangents))


class _Recorder(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operation imports the whole of torch.compile

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []  # an id is a name only while its tensor lives

    def name(self, tensor: Tensor, node: fx.Node) -> None:
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)
        node.meta["shape"] = tuple(tensor.shape)

    def named(self, tensor: Tensor) -> fx.Node:
        node = self._nodes.get(id(tensor))
        if node is None:
            raise CannotCapture(f"a tensor of shape {tuple(tensor.shape)} that is no parameter or buffer{_line()}")
        return node

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            raise CannotCapture(f"a number read out of a tensor{_line()}")
        if (smaller := _smaller(func, args, kwargs)) is not None:
            with self:
                return smaller(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in SAME and (args[0].dtype == result.dtype or args[0].dtype == torch.bool):
            self.name(result, self.named(args[0]))
            return result
        if func in FILLED or func in EMPTY:
            number = float("nan") if func in EMPTY else result.flatten()[0].item() if result.numel() else 0.0
            self.name(result, self.graph.call_function(CONSTANT, (list(result.shape), number), {"dtype": result.dtype}))
            return result
        written = _functional(func)
        given = fx.node.map_aggregate((args, kwargs), lambda a: self.named(a) if isinstance(a, Tensor) else a)
        node = self.graph.call_function(written, *given)
        node.meta["line"] = _line()
        if isinstance(result, Tensor):
            self.name(result, node)
        else:
            for i, piece in enumerate(result):
                if isinstance(piece, Tensor):
                    item = self.graph.call_function(operator.getitem, (node, i))
                    item.meta["line"] = node.meta["line"]
                    self.name(piece, item)
        return result


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


def _functional(func: Any) -> Any:
    """The operation that returns what this one writes in place; itself, if it writes nothing."""
    if func in (aten.view.default, aten._unsafe_view.default):
        return aten.reshape.default  # copies that make a view possible are not written down
    if not func._schema.is_mutable:
        return func
    name, overload = func._schema.name.split("::")[1], func._schema.overload_name or "default"
    packet = getattr(aten, name.rstrip("_"), None)
    if not name.endswith("_") or packet is None or overload not in packet.overloads():
        raise CannotCapture(f"{func}, which writes into a tensor{_line()}")
    return getattr(packet, overload)


def line_of(node: fx.Node) -> str:
    """Where in the cell's own code an operation stands, for the end of a message."""
    return node.meta.get("line") or " (in the backward step)"


def _line() -> str:
    """Where in the cell's own code the operation now being recorded stands, " (file, line n)"."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code is not _recorded.__code__:
        if not frame.f_code.co_filename.startswith((__file__, decompositions.__file__, TORCH)):
            return f" ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""


def _check(found: Step, step: Any, inputs: Sequence[Tensor]) -> None:
    """The graph must say what the cell does for other numbers too, or the cell decides by what it sees."""
    graph = fx.Graph()
    output = graph.graph_copy(found.graph, {})
    graph.output(output[0])  # type: ignore[index]
    values = fx.Interpreter(nn.Module(), graph=graph).run(*inputs, *inputs[1 : 1 + found.states])
    with torch.no_grad():
        expected = step(*inputs)
    if not all(torch.allclose(a, e) for a, e in zip(values, expected, strict=True)):
        raise CannotCapture("the step does not always run the same operations, or writes over a tensor it still uses")
