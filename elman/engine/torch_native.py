"""The executor `torch`: the functions that run `torch.nn.LSTM`, `GRU` and `RNN` (cuDNN, MIOpen, oneDNN, MPS, ...)."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from elman.engine import eager
from elman.engine.executor import Executor, StackInputs, Unsupported
from elman.engine.inputs import CellSpec, Inputs
from elman.engine.module_state import has_hooks
from elman.engine.observe.events import CallLabel, current_label, is_batched, is_observed, labeled
from elman.engine.outputs import Output, State, as_tuple
from elman.engine.precision import autocast_dtype
from elman.engine.replay import Conditions, gradients_of_replay
from elman.engine.torch_private import fused_rnn, is_transformed, keeps_graph, mkldnn_has_bfloat16

TORCH_CELLS: dict[type[nn.Module], str] = {nn.LSTMCell: "lstm", nn.GRUCell: "gru", nn.RNNCell: "rnn"}
DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")  # other backends may lack the operations that the functions call
PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")  # in the order of the functions
WARNINGS = (
    "RNN module weights are not part of single contiguous chunk",  # cuDNN copies the weights
    "LSTM with projections is not supported with oneDNN",
)
Results = tuple[Tensor, ...]  # the outputs, then the final states, (L, B, H) each


class TorchExecutor(Executor):
    """Runs the cells of torch.nn, all steps by one function of torch, on any device and in any dtype that it supports.

    A cell of another class names its function in its attribute `torch_function`.
    """

    name = "torch"
    any_cell = False
    runs_stacks = True
    follows_autocast = True

    @property
    def unavailable(self) -> str:
        """The environment variable ELMAN_TORCH if it is 0; "" otherwise."""
        return "the environment variable ELMAN_TORCH is 0" if os.environ.get("ELMAN_TORCH") == "0" else ""

    def run(self, inputs: Inputs) -> tuple[Output, State] | Unsupported:
        """Run a cell over a sequence."""
        tensors = inputs.tensors
        reasons = (
            self.unsupported(inputs.spec()), _unsupported_tensors(tensors), _unsupported_autocast(inputs.cell, tensors),
        )  # fmt: skip
        if reason := next(filter(None, reasons), ""):
            return Unsupported(reason, warn=False)
        if _needs_loop(inputs.x, inputs.tensors):
            return eager.run(inputs)
        states = [state.unsqueeze(0) for state in inputs.states]
        replay = partial(_replay_cell, inputs.cell, isinstance(inputs.state, Tensor), inputs.sizes, current_label())
        stack = StackInputs([inputs.cell], [inputs.parameters], inputs.x, states, inputs.sizes, replay)
        outputs, *finals = _run(stack)
        return outputs, finals[0][0] if isinstance(inputs.state, Tensor) else tuple(final[0] for final in finals)

    def run_stack(self, inputs: StackInputs) -> tuple[Tensor, list[Tensor]] | Unsupported | None:
        """Run all layers and directions by one function."""
        cells = map(_unsupported_cell, inputs.cells, inputs.parameters)
        reasons = (*cells, _unsupported_tensors(inputs.tensors), _unsupported_autocast(inputs.cells[0], inputs.tensors))
        if reason := next(filter(None, reasons), ""):
            return Unsupported(reason, warn=False)
        if _needs_loop(inputs.x, inputs.tensors):
            return None
        outputs, *finals = _run(inputs)
        return outputs, finals

    def unsupported(self, spec: CellSpec) -> str:
        """Return why torch has no function for a cell; "" if it has one."""
        return _unsupported_cell(spec.cell, spec.parameters)

    def describe(self, spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
        """Yield the function that runs all steps."""
        yield f"  all steps are run by the function of torch.nn, torch.{_function_name(spec.cell)}"


def _function_name(cell: nn.Module) -> str:
    """The name of the function that computes the equations of a cell; "" if there is none."""
    if "forward" in vars(cell):
        return ""
    # The attribute holds for the equations of the class that defines it. A subclass may have others.
    if "torch_function" in vars(type(cell)):
        return str(cell.torch_function)
    name = TORCH_CELLS.get(type(cell), "")
    return f"rnn_{cell.nonlinearity}" if name == "rnn" else name


def _unsupported_cell(cell: nn.Module, parameters: Mapping[str, Tensor]) -> str:
    if not _function_name(cell):
        return (
            "the torch executor supports the cells of torch.nn only (RNN, GRU, LSTM, LSTM with proj_size), without "
            f"zoneout or recurrent_dropout, got {cell._get_name()}"
        )
    projection = parameters.get("weight_hr")
    if projection is not None and projection.shape[0] == projection.shape[1]:
        return "the torch executor supports the cells of torch.nn only, whose proj_size is smaller than hidden_size"
    if has_hooks(cell):
        return f"the torch executor does not run single steps, got {cell._get_name()} with hooks"
    return ""


def _unsupported_tensors(tensors: Sequence[Tensor]) -> str:
    device, dtype = tensors[0].device, tensors[0].dtype
    if device.type not in DEVICES:
        return f"the torch executor supports the devices {', '.join(DEVICES)}, got {device}"
    for tensor in tensors:
        if tensor.device != device:
            return f"the torch executor supports tensors on one device, got {device} and {tensor.device}"
        if not tensor.is_floating_point() or (tensor.dtype != dtype and autocast_dtype(device.type) is None):
            kinds = " and ".join(dict.fromkeys((str(dtype), str(tensor.dtype))))
            return f"the torch executor supports one floating-point dtype, got {kinds}"
    return ""


def _unsupported_autocast(cell: nn.Module, tensors: Sequence[Tensor]) -> str:
    device = tensors[0].device.type
    if device != "cpu" or autocast_dtype(device) is not torch.bfloat16 or mkldnn_has_bfloat16():
        return ""
    # torch calls oneDNN for it, which raises an error.
    name = _function_name(cell)
    return (
        "the torch executor runs no LSTM under autocast on this CPU, where torch.lstm fails" if name == "lstm" else ""
    )


def _needs_loop(x: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Return True if the batch is empty, or torch.func or forward-mode differentiation is active for the tensors."""
    return 0 in x.shape[:-1] or is_transformed(tensors)


def _run(inputs: StackInputs) -> Results:
    call = _StackCall(inputs)
    tensors = [inputs.x, *inputs.states, *call.weights(inputs.parameters)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        results: Results = _Differentiable.apply(call, *tensors)  # type: ignore[no-untyped-call]
        return results
    return call.run(tensors)


class _StackCall:
    """A call of stacked cells without its tensors, which autograd saves."""

    def __init__(self, inputs: StackInputs) -> None:
        self.function = fused_rnn(_function_name(inputs.cells[0]))
        self.sizes, self.num_layers, self.num_states = inputs.sizes, len(inputs.cells), len(inputs.states)
        self.bidirectional = len(inputs.parameters) > self.num_layers
        self.names = [[name for name in PARAMETERS if name in values] for values in inputs.parameters]
        self.has_biases = "bias_ih" in self.names[0]
        self.cells, self.replay = dict.fromkeys(inputs.cells), inputs.replay

    def weights(self, parameters: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
        """The parameters in the order of the function."""
        return [values[name] for values, names in zip(parameters, self.names, strict=True) for name in names]

    def run(self, tensors: Sequence[Tensor]) -> Results:
        """Call the function with x, the states and the weights."""
        x, states, weights = tensors[0], tensors[1 : 1 + self.num_states], list(tensors[1 + self.num_states :])
        train = torch.is_grad_enabled()  # which cuDNN needs for a backward pass
        options = (weights, self.has_biases, self.num_layers, 0.0, train, self.bidirectional)
        if self.sizes is None:
            return self._call(x, states, *options, False)
        count = int(self.sizes[0])
        results = self._call(x, [state[:, :count] for state in states], *options, sizes=self.sizes)
        if x.is_cpu and self.num_states == 2:
            # Under autocast the LSTM returns its states' dtype, but autocast's if all sequences are of equal length,
            # which oneDNN runs. A dtype must not depend on lengths.
            results = tuple(result.to(states[0].dtype) for result in results)
        outputs, *finals = results
        if count == states[0].shape[1]:
            return outputs, *finals
        # The function takes no sequences without a step; their states stay.
        return outputs, *(torch.cat((f, s[:, count:].to(f)), 1) for f, s in zip(finals, states, strict=True))

    def _call(self, x: Tensor, states: Sequence[Tensor], *options: Any, sizes: Tensor | None = None) -> Results:
        hx = tuple(states) if self.num_states > 1 else states[0]
        with warnings.catch_warnings():
            for message in WARNINGS:
                warnings.filterwarnings("ignore", message)
            return self.function(x, hx, *options) if sizes is None else self.function(x, sizes, hx, *options)

    def run_by_loop(self, conditions: Sequence[Conditions], later: bool, tensors: Sequence[Tensor]) -> Results:
        """Run the cells on the eager loop, as they were in the forward pass."""
        states, weights = tensors[1 : 1 + self.num_states], iter(tensors[1 + self.num_states :])
        parameters = [dict(zip(names, islice(weights, len(names)), strict=True)) for names in self.names]
        with ExitStack() as stack:
            for condition in conditions:
                stack.enter_context(condition.restored("double backward"))
            return self.replay(tensors[0], states, parameters, later)


class _Differentiable(torch.autograd.Function):
    """A call with the backward pass of the function; second derivatives, and what observers see, are by the loop."""

    @staticmethod
    def forward(ctx: Any, call: _StackCall, *tensors: Tensor) -> Results:
        inputs = [t.detach().requires_grad_(n) for t, n in zip(tensors, ctx.needs_input_grad[1:], strict=True)]
        with torch.enable_grad():
            results = call.run(inputs)
        ctx.call, ctx.inputs, ctx.results, ctx.later = call, inputs, results, False
        ctx.conditions = [Conditions.of(cell, tensors[0].device.type) for cell in call.cells]
        ctx.save_for_backward(*tensors)  # and to raise in a second pass without retain_graph=True
        ctx.set_materialize_grads(False)
        return tuple(result.detach() for result in results)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        create_graph = torch.is_grad_enabled()
        replay = partial(ctx.call.run_by_loop, ctx.conditions, ctx.later)
        if create_graph or is_batched(cotangents):
            gradients = gradients_of_replay(replay, tensors, cotangents, needed, create_graph)
            ctx.later = ctx.later or create_graph
            return None, *gradients
        if is_observed():
            # For its events only: its gradients differ in rounding, and to record a training must not change it.
            gradients_of_replay(replay, tensors, cotangents, needed, create_graph=False)
        pairs = [(r, c) for r, c in zip(ctx.results, cotangents, strict=True) if c is not None and r.requires_grad]
        wanted = [tensor for tensor, is_needed in zip(ctx.inputs, needed, strict=True) if is_needed]
        computed = iter(
            torch.autograd.grad(
                [result for result, _ in pairs], wanted, [cotangent for _, cotangent in pairs],
                retain_graph=keeps_graph(), allow_unused=True,
            )
        )  # fmt: skip
        return None, *(next(computed) if is_needed else None for is_needed in needed)


def _replay_cell(
    cell: nn.Module, single: bool, sizes: Tensor | None, label: CallLabel | None,
    x: Tensor, states: Sequence[Tensor], parameters: Sequence[Mapping[str, Tensor]], later: bool,
) -> Results:  # fmt: skip
    state: State = states[0][0] if single else tuple(state[0] for state in states)
    with labeled(label and label._replace(later=later)):
        outputs, final = eager.run(Inputs(cell, parameters[0], x, state, sizes))
    assert isinstance(outputs, Tensor)
    return outputs, *(value.unsqueeze(0) for value in as_tuple(final))
