"""Layers under torch.compile: each call is one operator, `elman::layer`, which runs the layer.

A compiled graph holds no copy of what a layer does. The operator looks the layer up by its id and calls it as in eager
mode: a change since the graph was compiled (of the mode, an attribute, a cell, a hook, the gradient mode) has the same
effect as in eager mode and needs no recompilation. The id is a tensor and an input of the graph, so that layers of the
same kind share a graph.

This module imports the compiler, so layers import it only while they are being compiled.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from elman.bptt import Mode
from elman.engine.module_state import HOOKS
from elman.engine.precision import autocast_by_name, autocast_name, dtype_name
from elman.engine.torch_private import (
    above_autograd,
    assume_constant_result,
    below_autograd,
    in_dispatch_mode,
    specialized,
)
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.side_effects import without_effects
from elman.engine.uncompiled import outside
from elman.layers._layer_ids import find_layer
from elman.layers._state_structure import is_flat
from elman.layers._trajectory import probing

if TYPE_CHECKING:
    from elman.layers._layer import Layer, Lengths

_library = torch.library.Library("elman", "FRAGMENT")
# nondeterministic_seeded: the compiler must not merge two calls of a layer that draws random numbers or has hooks.
# dtypes are passed by name: torch 2.11 hands implementations a ScalarType in a list as an integer.
_library.define(
    "layer(Tensor layer_id, Tensor x, Tensor?[] packed, Tensor? lengths, Tensor[] states, Tensor[] weights, "
    "str[] names, bool single, str? autocast, SymInt[] sizes, int[] dims, str[] dtypes, bool[] needed) "
    "-> Tensor[]",
    tags=(torch.Tag.nondeterministic_seeded,),
)
# inputs and results are arguments, though the handle has them, so that the compiler does not reuse their memory.
_library.define(
    "layer_backward(Tensor handle, Tensor?[] gradients, Tensor[] inputs, Tensor[] results, bool[] needed) -> Tensor[]"
)
layer_op = torch.ops.elman.layer.default
backward_op = torch.ops.elman.layer_backward.default


class OutputSpec(NamedTuple):
    """Shapes, without the axes of time and batch, and dtypes of what a layer returns.

    names: of the outputs; empty if there is a single output, which has no name.
    outputs: for each output, (...) of (T, B, ...).
    states: for each state, the sizes before the batch axis and the one after it, (L, H) of (L, B, H).
    dtypes: of the outputs, then of the states.
    single: whether the state is a tensor and not a tuple.
    """

    names: tuple[str, ...]
    outputs: tuple[tuple[int, ...], ...]
    states: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    single: bool


def call_compiled(
    layer: "Layer", input: Any, state: Any, lengths: "Lengths | None", bptt: Mode | None
) -> tuple[Any, Any]:
    """Call a layer as an operator. torch.compile traces this function.

    What an operator cannot do runs in Python, at a graph break: online gradient modes, whose states carry more than
    numbers; a gradient mode passed to the call; cells that read outside tensors which require gradients; a
    PackedSequence whose batch size is known from its values only; invalid input.
    """
    result = None
    if bptt is None and not layer._mode(None).online:
        result = _call_operator(layer, input, state, lengths)
    if result is None:
        result = outside(layer._call, input, state, lengths, bptt)
    return result


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _call_operator(layer: "Layer", input: Any, state: Any, lengths: "Lengths | None") -> tuple[Any, Any] | None:
    """Call a layer as an operator; None where that is impossible."""
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
        return None  # for example, a nested state
    single, weights = isinstance(state, Tensor), layer._weights()
    # An argument, since a compiled graph runs without autocast.
    autocast = autocast_name(x.device.type)
    widths = tuple(specialized(value.shape[-1]) for value in states)
    # No guard is set on the value of a tensor. Of a layer whose results may differ from those of other layers of its
    # class, the number is passed, so that the graph is guarded on it.
    layer_id = layer._layer_id if layer._weights_decide_outputs() else layer._layer_number
    is_packed = isinstance(input, PackedSequence)
    spec = _output_spec(layer_id, specialized(x.shape[-1]), x.dtype, is_packed, widths, single, autocast)
    if spec is None:
        return None
    if isinstance(input, PackedSequence):
        batch: tuple[int, ...] = (
            (states[0].shape[-2],) if input.sorted_indices is None else (input.sorted_indices.shape[0],)
        )
    else:
        batch = lead[1:]
    shapes = [(*lead, *tail) for tail in spec.outputs]
    shapes += [(*tail[:-1], *batch, tail[-1]) for tail in spec.states]
    sizes, dims = [size for shape in shapes for size in shape], [len(shape) for shape in shapes]
    results = layer_op(
        layer._layer_id, x, packed, lengths, states, list(weights.values()), list(weights), single, autocast, sizes,
        dims, list(spec.dtypes), [],
    )  # fmt: skip
    outputs, final_states = results[: len(spec.outputs)], results[len(spec.outputs) :]
    if isinstance(input, PackedSequence):
        order = input.batch_sizes, input.sorted_indices, input.unsorted_indices
        values: list[Any] = [PackedSequence(rows, *order) for rows in outputs]
    else:
        transposed = layer.batch_first and input.dim() == 3
        values = [rows.transpose(0, 1) if transposed else rows for rows in outputs]
    output = dict(zip(spec.names, values, strict=True)) if spec.names else values[0]
    return output, final_states[0] if spec.single else tuple(final_states)


def _as_tensor(lengths: Any) -> Tensor:
    """Convert lengths to a tensor, integers one by one: `as_tensor` would specialize the compiler's symbols."""
    are_integers = isinstance(lengths, list | tuple) and all(isinstance(n, int) for n in lengths)
    return torch.stack([torch.full((), n) for n in lengths]) if are_integers and lengths else torch.as_tensor(lengths)


_NO_LAYER = torch.nn.Module()  # to probe: no layer records what its cells do


def _output_spec(
    layer_id: int | Tensor, width: int, dtype: torch.dtype, packed: bool, widths: Sequence[int], single: bool,
    autocast: str | None,
) -> OutputSpec | None:  # fmt: skip
    """Find out what a layer returns by running one step on zeros, without side effects; None if that step fails."""
    layer = find_layer(layer_id)
    if layer._reads_outside_tensors():
        return None
    weights = {name: value.detach().clone() for name, value in layer._weights().items()}
    like = next(iter(weights.values()), torch.empty(0))
    device, shape = like.device, (1, 2, width)
    x: Any = torch.zeros(shape, dtype=dtype, device=device).transpose(0, int(layer.batch_first))
    if packed:
        x = PackedSequence(x.flatten(0, 1), torch.tensor([2]))
    state: Any = None
    if widths:
        lead = layer._state_lead()
        states = [torch.zeros(*lead, 2, size, dtype=like.dtype, device=device) for size in widths]
        state = states[0] if single else tuple(states)
    try:
        with (
            torch.no_grad(), autocast_by_name(device.type, autocast), without_side_effects(layer),
        ):  # fmt: skip
            outputs, final = layer._compute(weights, x, state, None, None)
    except Exception:
        # The call itself will raise the same error, with its own message.
        return None
    named = outputs if isinstance(outputs, dict) else {"": outputs}
    if packed:
        named = {name: value.data.unsqueeze(0) for name, value in named.items()}
    final_states = (final,) if isinstance(final, Tensor) else final
    return OutputSpec(
        tuple(outputs) if isinstance(outputs, dict) else (),
        tuple(tuple(value.shape[2:]) for value in named.values()),
        tuple((*value.shape[:-2], value.shape[-1]) for value in final_states),
        tuple(dtype_name(value.dtype) for value in chain(named.values(), final_states)),
        isinstance(final, Tensor),
    )


@contextmanager
def without_side_effects(layer: "Layer") -> Iterator[None]:
    """Call no hooks, record nothing, and undo what steps change in the modules of the layer."""
    modules = list(layer.modules())
    hooks = [(module, name, getattr(module, name)) for module in modules for name in HOOKS]
    buffers = [(module, dict(module._buffers)) for module in modules]
    for module, name, registered in hooks:
        setattr(module, name, type(registered)())
    try:
        with (
            suppress(CannotCapture), without_effects(layer, logs=True), probing(_NO_LAYER), torch.random.fork_rng(),
        ):  # fmt: skip
            yield
    finally:
        for module, name, registered in hooks:
            setattr(module, name, registered)
        for module, before in buffers:
            module._buffers.update(before)


# torch.compile calls the function while it traces, and takes the result as a constant.
assume_constant_result(_output_spec)


class _GraphHandle(bytearray):
    """Memory of a tensor with the id of a forward pass, by which its backward pass finds the autograd graph.

    The graph lives as long as that tensor, which keeps its memory alive.
    """

    outputs: Sequence[Tensor]
    inputs: Sequence[Tensor]


_handles: "WeakValueDictionary[int, _GraphHandle]" = WeakValueDictionary()
_handle_ids = count(1)


def _run(
    layer_id: Tensor, x: Tensor, packed: Sequence[Tensor | None], lengths: Tensor | None, states: Sequence[Tensor],
    weights: Sequence[Tensor], names: Sequence[str], single: bool, autocast: str | None,
    sizes: Sequence[int], dims: Sequence[int], dtypes: Sequence[str], needed: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    """Call the layer in its present state."""
    layer = find_layer(layer_id)
    transposed = layer.batch_first and x.dim() == 3
    sequences: Any = PackedSequence(x, *packed) if packed else x.transpose(0, 1) if transposed else x
    state = None if not states else states[0] if single else tuple(states)
    named_weights = dict(zip(names, weights, strict=True))
    with autocast_by_name(x.device.type, autocast):
        outputs, final = layer._compute(named_weights, sequences, state, lengths, None)
    results = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    results = [value.data if packed else value.transpose(0, 1) if transposed else value for value in results]
    results = [value.contiguous() for value in (*results, *((final,) if isinstance(final, Tensor) else final))]
    remaining_sizes = iter(sizes)
    expected = [[next(remaining_sizes) for _ in range(dim)] for dim in dims]
    result_dtypes = [dtype_name(value.dtype) for value in results]
    if [list(value.shape) for value in results] != expected or result_dtypes != list(dtypes):
        got = [(*value.shape, value.dtype) for value in results]
        raise RuntimeError(
            f"{type(layer).__name__}: compiled by torch.compile for a cell that returns shapes {expected}, got {got}; "
            "call torch.compiler.reset() after the shapes that a cell returns change"
        )
    return results


def _compute(*arguments: Any) -> list[Tensor]:
    """Run the operator below autograd; append a handle to the results if a backward pass may follow."""
    layer_id, x, packed, lengths, states, weights, *rest, needed = arguments
    run: Callable[..., list[Tensor]] = _run
    if not any(needed):
        with torch.no_grad():
            return run(*arguments)
    layer = find_layer(layer_id)
    if layer._reads_outside_tensors():
        raise RuntimeError(
            f"{type(layer).__name__}: compiled by torch.compile before its cell read an outside tensor that requires "
            "a gradient; call torch.compiler.reset() after such a change"
        )
    inputs = [t.detach().requires_grad_(n) for t, n in zip((x, *states, *weights), needed, strict=True)]
    new_states, new_weights = inputs[1 : 1 + len(states)], inputs[1 + len(states) :]
    with above_autograd(), torch.enable_grad():
        outputs = run(layer_id, inputs[0], packed, lengths, new_states, new_weights, *rest, needed)
    return [*(output.detach() for output in outputs), _new_handle(outputs, inputs)]


def _new_handle(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
    handle = _GraphHandle(8)
    handle.outputs, handle.inputs = outputs, inputs
    tensor = torch.frombuffer(handle, dtype=torch.int64)  # which keeps the handle alive
    tensor[0] = handle_id = next(_handle_ids)
    _handles[handle_id] = handle
    return tensor


def _fake(
    layer_id: Tensor, x: Tensor, packed: Sequence[Tensor | None], lengths: Tensor | None, states: Sequence[Tensor],
    weights: Sequence[Tensor], names: Sequence[str], single: bool, autocast: str | None,
    sizes: Sequence[int], dims: Sequence[int], dtypes: Sequence[str], needed: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    remaining_sizes = iter(sizes)
    shapes = [[next(remaining_sizes) for _ in range(dim)] for dim in dims]
    results = [x.new_empty(shape, dtype=getattr(torch, dtype)) for shape, dtype in zip(shapes, dtypes, strict=True)]
    return [*results, torch.empty(1, dtype=torch.int64, device="cpu")] if any(needed) else results


def _backward(
    handle: Tensor, gradients: Sequence[Tensor | None], inputs: Sequence[Tensor], results: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    graph = _handles.get(int(handle))
    if graph is None:
        raise RuntimeError(
            "elman: backward of a compiled layer: expected the tensors that torch.compile saved for backward, got "
            "copies (from saved-tensor hooks, perhaps); exclude the layer with torch.compiler.disable"
        )
    pairs = [(o, d) for o, d in zip(graph.outputs, gradients, strict=True) if d is not None and o.requires_grad]
    wanted = [i for i, n in zip(graph.inputs, needed, strict=True) if n]
    input_gradients: Sequence[Tensor | None] = [None] * len(wanted)
    if pairs:
        with above_autograd():
            outputs, output_gradients = zip(*pairs, strict=True)
            # Retained: the compiled graph decides how long the handle lives, and with it the autograd graph.
            input_gradients = torch.autograd.grad(
                outputs, wanted, output_gradients, retain_graph=True, allow_unused=True
            )
    return [torch.zeros_like(i) if d is None else d.contiguous() for i, d in zip(wanted, input_gradients, strict=True)]


def _fake_backward(
    handle: Tensor, gradients: Sequence[Tensor | None], inputs: Sequence[Tensor], results: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    return [tensor.new_empty(tensor.shape) for tensor, n in zip(inputs, needed, strict=True) if n]


class _LayerFunction(torch.autograd.Function):
    """The operator with its backward pass, as a compiler traces it."""

    @staticmethod
    def forward(ctx: Any, state_count: int, arguments: tuple[Any, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        layer_id, packed, lengths, names, *rest = arguments
        x, states, weights = tensors[0], list(tensors[1 : 1 + state_count]), list(tensors[1 + state_count :])
        needed = list(ctx.needs_input_grad[2:])
        with below_autograd():
            *results, handle = layer_op(layer_id, x, packed, lengths, states, weights, names, *rest, needed)
        ctx.save_for_backward(handle, *tensors, *results)
        ctx.result_count = len(results)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(result for result in results if not result.is_floating_point()))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        handle, *saved = ctx.saved_tensors
        inputs, results = saved[: -ctx.result_count], saved[-ctx.result_count :]
        needed = list(ctx.needs_input_grad[2:])
        input_gradients = iter(backward_op(handle, list(gradients), inputs, results, needed))
        return (None, None, *(next(input_gradients) if n else None for n in needed))


def _autograd(*arguments: Any) -> list[Tensor]:
    layer_id, x, packed, lengths, states, weights, names, *rest, needed = arguments
    tensors = (x, *states, *weights)
    if not in_dispatch_mode():  # nothing is being traced
        # Without `needed`, run the layer as in eager mode, under autograd.
        run: Callable[..., list[Tensor]] = _compute if any(needed) else _run
        return run(*arguments)
    # With `needed`, the call is already part of a graph with a backward pass: trace the operator alone.
    if any(needed) or not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)):
        with below_autograd():
            return layer_op(*arguments)  # type: ignore[no-any-return]
    results = _LayerFunction.apply(len(states), (layer_id, packed, lengths, names, *rest), *tensors)  # type: ignore[no-untyped-call]
    return list(results)


_library.impl("layer", _compute, "CompositeExplicitAutograd")
_library.impl("layer", _autograd, "Autograd")
_library.impl("layer_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("elman::layer", _fake, lib=_library)
torch.library.register_fake("elman::layer_backward", _fake_backward, lib=_library)
