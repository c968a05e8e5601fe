"""Real-time recurrent learning: gradients computed forward in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import override

from elman.bptt._influence import Influence, influence_of, initial_influence
from elman.bptt._influence_steps import InfluenceSteps
from elman.bptt._memory import format_size, parse_size
from elman.bptt._repeatable import check_repeatable, repeatability
from elman.bptt._segments import Segments
from elman.bptt.mode import Mode
from elman.engine import Inputs, Output, State, run
from elman.engine.precision import autocast_dtype
from elman.engine.rng_state import get_rng_state
from elman.engine.torch_private import in_torch_func


@dataclass(frozen=True)
class RTRL(Mode):
    """Real-time recurrent learning: the gradient of `Full`, computed forward in time, for learning from a stream.

    Each state carries its influence, its derivatives with respect to all parameters: P_t = ds_t/ds_{t-1} P_{t-1} +
    ds_t/dtheta, where the last term is the derivative of step t alone. The gradient is the sum over t of
    dL/dy_t dy_t/dtheta, which needs P_{t-1} and step t. The state that a call returns carries P_T into the next call.
    So its gradient reaches through the whole past, as if the parameters had never changed, and no past step is saved.
    `detach` cuts it off. An initial state that requires a gradient gets one from every call that follows from it.

    With S numbers in the states of all layers and P in all parameters: O(S^2 P) operations per step and row of the
    batch, and O(S P) numbers per row, for any number of steps. A stack runs as one cell, since the parameters of each
    layer influence the states of all layers above. If you can wait for the end of a sequence, `Full` and `Checkpointed`
    give the same gradient for O(P) operations. Outputs are those of `Full`, up to rounding for a stack. The input gets
    no gradient, which would have to go back in time.

    Williams and Zipser, "A learning algorithm for continually running fully recurrent neural networks", Neural
    Computation 1 (1989).

    Args:
        memory: the most memory that the influence of one layer or stack may take, "500MB", "2 GiB" or a number of
            bytes. A step needs two to three times as much while it runs.

    Raises:
        ValueError: for an invalid amount of memory; in a call, if the influence takes more, for an input that requires
            a gradient, and for a state that carries the influence of other parameters.
        RuntimeError: in a call, for a cell that draws random numbers or whose steps cannot run again; under autocast
            and torch.func; in backward, if the derivatives of a step cannot be taken row by row of the batch.

    >>> import elman, torch
    >>> layer, read = elman.GRU(3, 5, bptt=RTRL()), torch.nn.Linear(5, 1)
    >>> optimizer = torch.optim.SGD([*layer.parameters(), *read.parameters()], lr=0.1)
    >>> h = None
    >>> for x in torch.randn(100, 1, 3):
    ...     y, h = layer.step(x, h)
    ...     (read(y) - x.sum()).square().sum().backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    """

    memory: int | str = "1GB"
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not parse_size(self.memory):
            expected = "an amount such as '512MB' or '2GiB', or a number of bytes"
            raise ValueError(f"RTRL: memory: expected {expected}, got {self.memory!r}")

    @override
    def run(self, inputs: Inputs, executor: str = "auto") -> tuple[Output, State]:
        if not torch.is_grad_enabled():
            return run(inputs, executor)
        cell, parameters = inputs.cell, inputs.parameters
        needs_gradient = any(tensor.requires_grad for tensor in inputs.tensors)
        if needs_gradient:
            _check(inputs.x)
        repeatable = repeatability(inputs)
        if repeatable.outside:
            shape = tuple(repeatable.outside[0].shape)
            raise ValueError(
                f"RTRL: {cell._get_name()}: expected only parameters to require gradients, got a step that reads "
                f"another tensor of shape {shape} that does; make it a parameter, detach it, or use Full"
            )
        if not needs_gradient:
            return run(inputs, executor)
        check_repeatable(cell, repeatable)
        names = tuple(name for name, value in parameters.items() if value.requires_grad)
        influence = self._initial_influence(inputs, names)
        segments = Segments(inputs, executor)
        detached = [tensor.detach() for tensor in inputs.tensors]
        sources = (*(parameters[name] for name in names), *influence.initial)
        results = _RTRLFunction.apply(segments, influence, detached, *sources)  # type: ignore[no-untyped-call]
        finals = results[-segments.num_states :]
        finals[0].grad_fn.after.attach(finals)
        return segments.results(results)

    def _initial_influence(self, inputs: Inputs, names: tuple[str, ...]) -> Influence:
        """The influence that the initial states carry, or else a new one."""
        cell, states = inputs.cell, inputs.states
        sizes = [inputs.parameters[name].numel() for name in names]
        carried = influence_of(states)
        if carried is not None and _equations(carried.cell) is not _equations(cell):
            carried = None
        if carried is not None and carried.names != names:
            expected = f"a state computed with gradients of the same parameters, {', '.join(names) or 'none'}"
            raise ValueError(f"RTRL: state: expected {expected}; got {', '.join(carried.names)}; detach it")
        initial = [state for state in states if state.requires_grad] if carried is None else carried.initial
        B, S, P = len(states[0]), sum(state.shape[1] for state in states), sum(sizes)
        num_initial = sum(state.shape[1] for state in initial)
        needed, allowed = B * S * (P + num_initial) * states[0].element_size(), parse_size(self.memory)
        if needed > allowed:
            sources = f"{P:,} parameters" + (f" and {num_initial:,} initial values" if num_initial else "")
            raise ValueError(
                f"RTRL: memory: the influence of {sources} on {S:,} states needs {format_size(needed)} for a batch of "
                f"{B:,}, more than {format_size(allowed)}; use Checkpointed or Truncated, a smaller cell, or a "
                "larger memory="
            )
        return initial_influence(cell, names, sizes, states) if carried is None else carried


def _equations(cell: nn.Module) -> object:
    """An object that is the same for the modules that a stack runs in training and in evaluation."""
    return getattr(cell, "stack_cells", cell)


def _check(x: Tensor) -> None:
    """Check that the gradients of a call can be computed forward in time."""
    if in_torch_func():
        raise RuntimeError(
            "RTRL: expected gradients by torch.autograd, got a transform of torch.func; use Full with torch.func"
        )
    if autocast_dtype(x.device.type) is not None:
        raise RuntimeError("RTRL: expected one precision for all steps, got autocast; use Full under autocast")
    if x.requires_grad:
        raise ValueError(
            "RTRL: input: expected requires_grad=False, since RTRL has no backward pass through time, got "
            "requires_grad=True; detach the input, or compute it in the cell, which can contain an embedding"
        )


class _RTRLFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, segments: Segments, before: Influence, detached: Sequence[Tensor], *sources: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        (x, *rest), num_states = detached, segments.num_states
        state_of_rng = get_rng_state(x.device)
        outputs, finals = segments.run(x, 0, segments.steps, rest[:num_states], rest[num_states:])
        if not all(map(torch.equal, state_of_rng, get_rng_state(x.device))):
            raise RuntimeError(
                f"RTRL: {segments.cell._get_name()}: expected steps without random numbers; use Full for this cell"
            )
        steps = InfluenceSteps(segments, before, detached)
        for t in range(segments.steps):
            steps.advance(t)
        ctx.segments, ctx.before, ctx.after = segments, before, steps.influence()
        ctx.save_for_backward(*detached)
        return (*outputs, *(state.clone() for state in finals))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        segments: Segments = ctx.segments
        d_outputs, d_finals = cotangents[: -segments.num_states], cotangents[-segments.num_states :]
        steps = InfluenceSteps(segments, ctx.before, ctx.saved_tensors)
        d_steps = [None if d is None else segments.by_step(d) for d in d_outputs]
        with segments.conditions.restored("bptt"):
            for t in range(segments.steps if any(d is not None for d in d_outputs) else 0):
                steps.collect(t, [None if d is None else d[t] for d in d_steps])
                if t < segments.steps - 1:  # the influence after the last step is known
                    steps.advance(t)
        steps.collect_finals(ctx.after, d_finals)
        return (None, None, None, *steps.gradients())
