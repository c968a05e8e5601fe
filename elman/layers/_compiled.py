"""Layers under torch.compile: each call is one operator, `elman::layer`, which runs the layer.

A compiled graph has no copy of what a layer does. The operator looks the layer up by its number and calls it as in
eager mode: whatever has changed since the graph was made (a mode, an attribute, a cell, a hook, how the gradient goes
back) acts as it does there, and nothing has to be compiled again. The number is a tensor, an input of the graph, so
that layers of one kind share a graph.

This module imports the compiler: it is imported by layers that are being compiled.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from elman.bptt import Mode
from elman.engine.module_state import HOOKS
from elman.engine.torch_private import above_autograd, below_autograd, in_dispatch_mode
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.side_effects import without_effects
from elman.engine.uncompiled import outside
from elman.layers._layer_ids import find_layer
from elman.layers._state_structure import is_flat
from elman.layers._trajectory import probing

if TYPE_CHECKING:
    from elman.layers._layer import Layer, Lengths

_library = torch.library.Library("elman", "FRAGMENT")
# Two calls of a layer that draws random numbers are not one, and neither are calls of cells with hooks.
_library.define(
    "layer(Tensor layer, Tensor x, Tensor?[] packed, Tensor? lengths, Tensor[] states, Tensor[] weights, str[] names, "
    "bool single, ScalarType? autocast, SymInt[] sizes, int[] dims, ScalarType[] dtypes, bool[] needed) "
    "-> Tensor[]",
    tags=(torch.Tag.nondeterministic_seeded,),
)
# It asks for inputs and results though the ticket knows them: a compiler must not use their memory for anything else.
_library.define(
    "layer_backward(Tensor ticket, Tensor?[] gradients, Tensor[] inputs, Tensor[] results, bool[] needed) -> Tensor[]"
)
layer_op = torch.ops.elman.layer.default
backward_op = torch.ops.elman.layer_backward.default


class Outline(NamedTuple):
    """What a layer returns: of outputs and of states, the sizes behind time and batch, and the dtypes.

    names: of the outputs; none where there is but one, which has no name.
    outputs: sizes of each, (...) of (T, B, ...).
    states: sizes of each: those before the batch and the one behind it, (L, H) of (L, B, H).
    dtypes: of the outputs, then of the states.
    single: the state is a tensor, and no tuple.
    """

    names: tuple[str, ...]
    outputs: tuple[tuple[int, ...], ...]
    states: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    single: bool


def compiled(layer: "Layer", input: Any, state: Any, lengths: "Lengths | None", bptt: Mode | None) -> tuple[Any, Any]:
    """Call a layer as an operator. torch.compile traces this function.

    What an operator cannot do runs in Python, at a break of the graph: modes that are online, whose states carry more
    than numbers; a mode given in the call; cells that read tensors from elsewhere, to which a gradient goes; a
    PackedSequence whose number of sequences is known from its values alone; input that is wrong.
    """
    found = None
    if bptt is None and not layer._mode(None).online:
        found = _as_operator(layer, input, state, lengths)
    if found is None:
        found = outside(layer._call, input, state, lengths, bptt)
    return found


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _as_operator(layer: "Layer", input: Any, state: Any, lengths: "Lengths | None") -> tuple[Any, Any] | None:
    packed: list[Tensor | None] = []
    if isinstance(input, PackedSequence):
        if lengths is not None or (input.sorted_indices is None and state is None):
            return None
        x, lead = input.data, tuple(input.data.shape[:1])
        packed = [input.batch_sizes, input.sorted_indices, input.unsorted_indices]
    elif isinstance(input, Tensor) and input.dim() in (2, 3):
        x = input.transpose(0, 1) if layer.batch_first and input.dim() == 3 else input
        lead = tuple(x.shape[:-1])
    else:
        return None
    if lengths is not None and not isinstance(lengths, Tensor):
        lengths = _as_tensor(lengths)
    states = [] if state is None else [state] if isinstance(state, Tensor) else list(state)
    if not (is_flat(state) and is_flat(getattr(layer, "state_size", None)) and all(map(_is_tensor, states))):
        return None  # a state in a form of its own, say
    single, weights, autocast = isinstance(state, Tensor), layer._weights(), _autocast(x.device.type)
    widths = tuple(one.shape[-1] for one in states)
    # By its number, which no guard looks at, unless a layer like this one may return something else.
    of = layer._layer_id if layer._alike() else layer
    of_input = _constant(x.shape[-1]), x.dtype, bool(packed)
    outline = _outline(of, *of_input, tuple(map(_constant, widths)), single, autocast)
    if outline is None:
        return None
    if isinstance(input, PackedSequence):
        batch: tuple[int, ...] = (
            (states[0].shape[-2],) if input.sorted_indices is None else (input.sorted_indices.shape[0],)
        )
    else:
        batch = lead[1:]
    shapes = [(*lead, *tail) for tail in outline.outputs]
    shapes += [(*tail[:-1], *batch, tail[-1]) for tail in outline.states]
    sizes, dims = [size for shape in shapes for size in shape], [len(shape) for shape in shapes]
    results = layer_op(
        layer._layer_id, x, packed, lengths, states, list(weights.values()), list(weights), single, autocast, sizes,
        dims, list(outline.dtypes), [],
    )  # fmt: skip
    outputs, finals = results[: len(outline.outputs)], results[len(outline.outputs) :]
    if isinstance(input, PackedSequence):
        order = input.batch_sizes, input.sorted_indices, input.unsorted_indices
        values: list[Any] = [PackedSequence(rows, *order) for rows in outputs]
    else:
        flip = layer.batch_first and input.dim() == 3
        values = [rows.transpose(0, 1) if flip else rows for rows in outputs]
    output = dict(zip(outline.names, values, strict=True)) if outline.names else values[0]
    return output, finals[0] if outline.single else tuple(finals)


def _as_tensor(lengths: Any) -> Tensor:
    """Lengths as a tensor, numbers one by one: `as_tensor` would fix the symbols that a compiler sees in them."""
    numbers = isinstance(lengths, list | tuple) and all(isinstance(n, int) for n in lengths)
    return torch.stack([torch.full((), n) for n in lengths]) if numbers and lengths else torch.as_tensor(lengths)


def _constant(size: int) -> int:
    """A width as a number: a compiler may see a symbol in it, whose value it fixes here."""
    return len([0] * size)


def _autocast(device: str) -> torch.dtype | None:
    """The precision of autocast, where it is on: a compiled graph runs without it."""
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def _autocasting(device: str, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    return nullcontext() if dtype is None else torch.autocast(device, dtype)


_NOBODY = torch.nn.Module()


def _outline(
    of: "Layer | Tensor", width: int, dtype: torch.dtype, packed: bool, widths: Sequence[int], single: bool,
    autocast: torch.dtype | None,
) -> Outline | None:  # fmt: skip
    """What a layer returns, from one step on zeros, of which nothing stays behind; None where that step fails."""
    layer = find_layer(int(of)) if isinstance(of, Tensor) else of
    if layer._reads_elsewhere():
        return None
    weights = {name: value.detach().clone() for name, value in layer._weights().items()}
    like = next(iter(weights.values()), torch.empty(0))
    device, step = like.device, (1, 2, width)
    x: Any = torch.zeros(step, dtype=dtype, device=device).transpose(0, int(layer.batch_first))
    if packed:
        x = PackedSequence(x.flatten(0, 1), torch.tensor([2]))
    state: Any = None
    if widths:
        lead = layer._state_lead()
        states = [torch.zeros(*lead, 2, size, dtype=like.dtype, device=device) for size in widths]
        state = states[0] if single else tuple(states)
    try:
        with (
            torch.no_grad(), probing(_NOBODY), torch.random.fork_rng(), _autocasting(device.type, autocast),
            _nothing_else(layer),
        ):  # fmt: skip
            outputs, final = layer._compute(weights, x, state, None, None)
    except Exception:
        # The call itself meets the same error, and tells of it in its own words.
        return None
    named = outputs if isinstance(outputs, dict) else {"": outputs}
    if packed:
        named = {name: value.data.unsqueeze(0) for name, value in named.items()}
    finals = (final,) if isinstance(final, Tensor) else final
    return Outline(
        tuple(outputs) if isinstance(outputs, dict) else (),
        tuple(tuple(value.shape[2:]) for value in named.values()),
        tuple((*one.shape[:-2], one.shape[-1]) for one in finals),
        tuple(value.dtype for value in chain(named.values(), finals)),
        isinstance(final, Tensor),
    )


@contextmanager
def _nothing_else(layer: "Layer") -> Iterator[None]:
    """Within, hooks are not called; what steps change in the layer's modules is undone."""
    modules = list(layer.modules())
    hooks = [(module, name, getattr(module, name)) for module in modules for name in HOOKS]
    buffers = [(module, dict(module._buffers)) for module in modules]
    for module, name, own in hooks:
        setattr(module, name, type(own)())
    try:
        with suppress(CannotCapture), without_effects(layer, logs=True):
            yield
    finally:
        for module, name, own in hooks:
            setattr(module, name, own)
        for module, before in buffers:
            module._buffers.update(before)


# torch.compile calls it while it traces, and takes the answer as a constant.
vars(_outline)["_dynamo_marked_constant"] = True


class _Ticket(bytearray):
    """The memory of a number by which a backward pass finds its forward pass; as long as it lives, that does too."""

    outputs: Sequence[Tensor]
    inputs: Sequence[Tensor]


_tickets: "WeakValueDictionary[int, _Ticket]" = WeakValueDictionary()
_numbers = count(1)


def _run(
    number: Tensor, x: Tensor, packed: Sequence[Tensor | None], lengths: Tensor | None, states: Sequence[Tensor],
    weights: Sequence[Tensor], names: Sequence[str], single: bool, autocast: torch.dtype | None,
    sizes: Sequence[int], dims: Sequence[int], dtypes: Sequence[torch.dtype], needed: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    """Call the layer of this number as it is now."""
    layer = find_layer(int(number))
    given: Any = PackedSequence(x, *packed) if packed else x
    flips = layer.batch_first and x.dim() == 3
    state = None if not states else states[0] if single else tuple(states)
    values = dict(zip(names, weights, strict=True))
    with _autocasting(x.device.type, autocast):
        outputs, final = layer._compute(values, given.transpose(0, 1) if flips else given, state, lengths, None)
    found = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    found = [value.data if packed else value.transpose(0, 1) if flips else value for value in found]
    found = [value.contiguous() for value in (*found, *((final,) if isinstance(final, Tensor) else final))]
    rest = iter(sizes)
    expected = [[next(rest) for _ in range(dim)] for dim in dims]
    if [list(value.shape) for value in found] != expected or [value.dtype for value in found] != list(dtypes):
        came = [(*value.shape, value.dtype) for value in found]
        raise RuntimeError(
            f"{type(layer).__name__}: compiled by torch.compile for a cell that returns shapes {expected}, got {came}; "
            "call torch.compiler.reset() after a change of what a cell returns"
        )
    return found


def _compute(*arguments: Any) -> list[Tensor]:
    """Below autograd: the results, and a ticket for the backward pass where one may come."""
    number, x, packed, lengths, states, weights, *rest, needed = arguments
    run: Callable[..., list[Tensor]] = _run
    if not any(needed):
        with torch.no_grad():
            return run(*arguments)
    layer = find_layer(int(number))
    if layer._reads_elsewhere():
        raise RuntimeError(
            f"{type(layer).__name__}: compiled by torch.compile before its cell read a tensor from elsewhere that "
            "requires a gradient; call torch.compiler.reset() after such a change"
        )
    inputs = [t.detach().requires_grad_(n) for t, n in zip((x, *states, *weights), needed, strict=True)]
    own, of = inputs[1 : 1 + len(states)], inputs[1 + len(states) :]
    with above_autograd(), torch.enable_grad():
        outputs = run(number, inputs[0], packed, lengths, own, of, *rest, needed)
    return [*(output.detach() for output in outputs), _ticket(outputs, inputs)]


def _ticket(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
    ticket = _Ticket(8)
    ticket.outputs, ticket.inputs = outputs, inputs
    tensor = torch.frombuffer(ticket, dtype=torch.int64)  # which keeps the ticket alive
    tensor[0] = number = next(_numbers)
    _tickets[number] = ticket
    return tensor


def _fake(
    number: Tensor, x: Tensor, packed: Sequence[Tensor | None], lengths: Tensor | None, states: Sequence[Tensor],
    weights: Sequence[Tensor], names: Sequence[str], single: bool, autocast: torch.dtype | None,
    sizes: Sequence[int], dims: Sequence[int], dtypes: Sequence[torch.dtype], needed: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    rest = iter(sizes)
    found = [x.new_empty([next(rest) for _ in range(dim)], dtype=of) for dim, of in zip(dims, dtypes, strict=True)]
    return [*found, torch.empty(1, dtype=torch.int64, device="cpu")] if any(needed) else found


def _backward(
    ticket: Tensor, gradients: Sequence[Tensor | None], inputs: Sequence[Tensor], results: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    known = _tickets.get(int(ticket))
    if known is None:
        raise RuntimeError(
            "elman: the forward pass of a compiled layer is gone: expected what torch.compile saves for backward to "
            "stay where it is, got a copy (saved-tensor hooks, perhaps); leave the layer out by torch.compiler.disable"
        )
    pairs = [(o, d) for o, d in zip(known.outputs, gradients, strict=True) if d is not None and o.requires_grad]
    asked = [i for i, n in zip(known.inputs, needed, strict=True) if n]
    found: Sequence[Tensor | None] = [None] * len(asked)
    if pairs:
        with above_autograd():
            # The compiled graph decides when it is done with: then the ticket goes, and with it the graph.
            outputs, of = zip(*pairs, strict=True)
            found = torch.autograd.grad(outputs, asked, of, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(i) if d is None else d.contiguous() for i, d in zip(asked, found, strict=True)]


def _fake_backward(
    ticket: Tensor, gradients: Sequence[Tensor | None], inputs: Sequence[Tensor], results: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    return [tensor.new_empty(tensor.shape) for tensor, n in zip(inputs, needed, strict=True) if n]


class _LayerFunction(torch.autograd.Function):
    """The operator as a compiler writes it down, with its backward pass."""

    @staticmethod
    def forward(ctx: Any, count: int, arguments: tuple[Any, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        number, packed, lengths, names, *rest = arguments
        x, states, weights = tensors[0], list(tensors[1 : 1 + count]), list(tensors[1 + count :])
        needed = list(ctx.needs_input_grad[2:])
        with below_autograd():
            *results, ticket = layer_op(number, x, packed, lengths, states, weights, names, *rest, needed)
        ctx.save_for_backward(ticket, *tensors, *results)
        ctx.results = len(results)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(result for result in results if not result.is_floating_point()))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        ticket, *saved = ctx.saved_tensors
        inputs, of = saved[: -ctx.results], saved[-ctx.results :]
        needed = list(ctx.needs_input_grad[2:])
        found = iter(backward_op(ticket, list(gradients), inputs, of, needed))
        return (None, None, *(next(found) if n else None for n in needed))


def _autograd(*arguments: Any) -> list[Tensor]:
    number, x, packed, lengths, states, weights, names, *rest, needed = arguments
    tensors = (x, *states, *weights)
    if not in_dispatch_mode():  # nobody writes anything down
        run: Callable[..., list[Tensor]] = _compute if any(needed) else _run  # which is the layer in eager mode
        return run(*arguments)
    # Of a graph that has its backward pass already, or needs none, nothing is to be written down here.
    if any(needed) or not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)):
        with below_autograd():
            return layer_op(*arguments)  # type: ignore[no-any-return]
    results = _LayerFunction.apply(len(states), (number, packed, lengths, names, *rest), *tensors)  # type: ignore[no-untyped-call]
    return list(results)


_library.impl("layer", _compute, "CompositeExplicitAutograd")
_library.impl("layer", _autograd, "Autograd")
_library.impl("layer_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("elman::layer", _fake, lib=_library)
torch.library.register_fake("elman::layer_backward", _fake_backward, lib=_library)
