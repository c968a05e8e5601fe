"""Real-time recurrent learning: gradients computed forward in time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from elman.bptt._influence import Influence, influence_of, initial_influence
from elman.bptt._influence_steps import InfluenceSteps
from elman.bptt._memory import format_size, parse_size
from elman.bptt._repeatable import check_repeatable, repeatability
from elman.bptt._segments import Segments
from elman.bptt.mode import Mode
from elman.engine import Output, State, as_tuple, run
from elman.engine.rng_state import get_rng_state
from elman.engine.torch_private import in_torch_func


@dataclass(frozen=True)
class RTRL(Mode):
    """Real-time recurrent learning: the gradient of `Full` without a way back, for learning while a stream goes on.

    With every state goes its influence, its derivatives by all parameters: P_t = ds_t/ds_{t-1} P_{t-1} + ds_t/dtheta,
    of which the last is what step t alone makes. The gradient is the sum over t of dL/dy_t dy_t/dtheta, which needs
    P_{t-1} and step t. The state that a call returns carries P_T into the next call, whose gradient so reaches through
    the whole past, as if the parameters had always been what they are, while nothing is kept of the past. `detach` cuts
    it off. If the initial state asks for a gradient, it gets one, from every call that came of it.

    For S numbers in the states of all layers and P in all parameters: O(S^2 P) operations per step and row of the
    batch, and O(S P) numbers per row, however many steps there are. A stack is one cell here, whose layers all have
    influence on those above. Where the end of a sequence can be waited for, `Full` and `Checkpointed` give the same for
    O(P) operations. Outputs are those of `Full`, for a stack to rounding. The input gets no gradient, which would have
    to go back.

    Williams and Zipser, "A learning algorithm for continually running fully recurrent neural networks", Neural
    Computation 1 (1989).

    Args:
        memory: what the influence of one layer or stack may take, "500MB", "2 GiB" or a number of bytes. While a step
            is taken, it is there twice to three times.

    Raises:
        ValueError: for what is no amount of memory; in a call, if the influence takes more; for an input that asks for
            a gradient; for a state of other parameters.
        RuntimeError: in a call, for a cell that draws random numbers or whose steps cannot run again; for transforms of
            torch.func; in backward, if the derivatives of a step cannot be taken row by row of the batch.

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

    def run(
        self,
        cell: nn.Module,
        parameters: Mapping[str, Tensor],
        x: Tensor,
        state: State,
        executor: str = "auto",
        sizes: Tensor | None = None,
    ) -> tuple[Output, State]:
        """Run a cell over a sequence. Gradients are those of parameters and states; states carry the influence."""
        states, names = as_tuple(state), tuple(name for name, value in parameters.items() if value.requires_grad)
        if not torch.is_grad_enabled():
            return run(cell, parameters, x, state, executor, sizes)
        if names or any(t.requires_grad for t in (x, *states)):
            _check(x)
        found = repeatability(cell, parameters, x, state, sizes)
        if found.elsewhere:
            shape = tuple(found.elsewhere[0].shape)
            raise ValueError(
                f"RTRL: {cell._get_name()}: expected gradients of parameters alone, got a step that reads a tensor of "
                f"shape {shape} which asks for one and is none; make it a parameter, detach it, or use Full"
            )
        if not (names or any(t.requires_grad for t in (x, *states))):
            return run(cell, parameters, x, state, executor, sizes)
        check_repeatable(cell, found)
        influence = self._influence(cell, names, [parameters[name].numel() for name in names], states)
        segments = Segments(
            cell, tuple(parameters), None if isinstance(state, Tensor) else len(state), executor, sizes, x
        )
        kept = [tensor.detach() for tensor in (x, *states, *parameters.values())]
        sources = (*(parameters[name] for name in names), *influence.initial)
        results = _Run.apply(segments, influence, kept, *sources)  # type: ignore[no-untyped-call]
        outputs, finals = results[: -segments.states], results[-segments.states :]
        finals[0].grad_fn.after.label(finals)
        return segments.output(outputs), finals[0] if isinstance(state, Tensor) else finals

    def _influence(
        self, cell: nn.Module, names: tuple[str, ...], sizes: Sequence[int], states: Sequence[Tensor]
    ) -> Influence:
        """That which the states bring with them, or else its beginning."""
        found = influence_of(states)
        known = found is not None and _equations(found.cell) is _equations(cell)
        if found is not None and known and found.names != names:
            expected = f"one with a past of the parameters that ask for a gradient, {', '.join(names) or 'none'}"
            raise ValueError(f"RTRL: state: expected {expected}; got {', '.join(found.names)}; detach it")
        initial = found.initial if found is not None and known else [s for s in states if s.requires_grad]
        B, S, P, given = len(states[0]), sum(s.shape[1] for s in states), sum(sizes), sum(s.shape[1] for s in initial)
        needed, allowed = B * S * (P + given) * states[0].element_size(), parse_size(self.memory)
        if needed > allowed:
            sources = f"{P:,} parameters" + (f" and {given:,} initial values" if given else "")
            raise ValueError(
                f"RTRL: memory: the influence of {sources} on {S:,} states takes {format_size(needed)} for {B:,} rows, "
                f"of {format_size(allowed)} allowed; use Checkpointed or Truncated, a smaller cell, or memory="
            )
        return found if found is not None and known else initial_influence(cell, names, sizes, states)


def _equations(cell: nn.Module) -> object:
    """What is the same object for the modules that a stack runs in training and in evaluation."""
    return getattr(cell, "stack_cells", cell)


def _check(x: Tensor) -> None:
    """Whether the gradients of a call can go forward."""
    if in_torch_func():
        raise RuntimeError("RTRL: expected gradients of torch.autograd, got a transform of torch.func; use Full there")
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        raise RuntimeError("RTRL: expected one precision for all steps, got autocast; use Full there")
    if x.requires_grad:
        raise ValueError(
            "RTRL: input: expected one that asks for no gradient, which would have to go back in time, got "
            "requires_grad=True; detach it, or let the cell make it: an embedding can be a part of the cell"
        )


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, segments: Segments, before: Influence, kept: Sequence[Tensor], *sources: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        (x, *rest), drawn = kept, get_rng_state(kept[0].device)
        outputs, finals = segments.run(x, 0, segments.steps, rest[: segments.states], rest[segments.states :])
        if not all(map(torch.equal, drawn, get_rng_state(x.device))):
            raise RuntimeError(
                f"RTRL: {segments.cell._get_name()}: expected steps without random numbers; use Full there"
            )
        walk = InfluenceSteps(segments, before, kept)
        for t in range(segments.steps):
            walk.advance(t)
        ctx.segments, ctx.before, ctx.after = segments, before, walk.influence()
        ctx.save_for_backward(*kept)
        return (*outputs, *(state.clone() for state in finals))  # in memory of their own

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        segments: Segments = ctx.segments
        of_outputs, of_finals = cotangents[: -segments.states], cotangents[-segments.states :]
        walk = InfluenceSteps(segments, ctx.before, ctx.saved_tensors)
        steps = [None if d is None else segments.by_step(d) for d in of_outputs]
        with segments.conditions.restored("bptt"):
            for t in range(segments.steps if any(d is not None for d in of_outputs) else 0):
                walk.collect(t, [None if d is None else d[t] for d in steps])
                if t < segments.steps - 1:  # what comes after the last is known
                    walk.advance(t)
        walk.collect_finals(ctx.after, of_finals)
        return (None, None, None, *walk.gradients())
