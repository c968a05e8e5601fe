"""RTRL, step by step: advances the influence of the parameters on the states, and collects gradients by it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from elman.bptt._influence import Influence
from elman.bptt._segments import Segments
from elman.engine import Output, State, as_tuple
from elman.engine.eager import run_step
from elman.engine.outputs import output_tensors
from elman.engine.trace.cotangents import scalar_with_cotangents

Rows = tuple[Tensor, ...]


class InfluenceSteps:
    """The influence P on the states of a call, advanced step by step: P_t = J_t P_{t-1} + F_t.

    J_t (B, S, S) are the derivatives of the states after step t with respect to those before, F_t (B, S, P) those with
    respect to the parameters, of this step alone.

    Args:
        segments: runs steps.
        before: the influence on the states before the first step.
        tensors: x, these states and the parameters.
    """

    def __init__(self, segments: Segments, before: Influence, tensors: Sequence[Tensor]) -> None:
        self.segments, self.before, self.steps = segments, before, segments.by_step(tensors[0])
        self.states = list(tensors[1 : 1 + segments.num_states])
        named = dict(zip(segments.names, tensors[1 + segments.num_states :], strict=True))
        self.parameters = {name: named.pop(name) for name in before.names}  # that require a gradient
        self.constants = named
        S, count = sum(state.shape[1] for state in self.states), len(self.parameters)
        self.P = [value.unflatten(1, (S, -1)) for value in before.values]
        # Gradients of parameters are summed over the batch, those of initial states belong to a row.
        self.sums = [P.new_zeros(P.shape[2]) for P in self.P[:count]]
        self.sums += [P.new_zeros(len(P), P.shape[2]) for P in self.P[count:]]

    def advance(self, t: int) -> None:
        """Take step t. States and influence of sequences that have ended stay as they are."""
        n, count = len(self.steps[t]), len(self.parameters)
        F, J, states = self._derivatives(tuple(s[:n] for s in self.states), self.steps[t])
        active = [torch.baddbmm(f.flatten(2), J, P[:n]) for f, P in zip(F, self.P[:count], strict=True)]
        active += [J @ P[:n] for P in self.P[count:]]
        self.P = [_with_ended(value, P) for value, P in zip(active, self.P, strict=True)]
        self.states = [_with_ended(value, s) for value, s in zip(states, self.states, strict=True)]

    def influence(self) -> Influence:
        """The influence on the present states."""
        return replace(self.before, values=tuple(P.flatten(1) for P in self.P))

    def collect(self, t: int, cotangents: Sequence[Tensor | None]) -> None:
        """Add the gradients that come from the outputs of step t, before it is taken, given their cotangents."""
        n = len(self.steps[t])
        parameters = tuple(value.detach().requires_grad_() for value in self.parameters.values())
        states = tuple(s[:n].detach().requires_grad_() for s in self.states)
        with torch.enable_grad():
            output, _ = self._step(parameters, states, self.steps[t])
            all_pairs = zip(output_tensors(output), cotangents, strict=True)
            pairs = [(y, d) for y, d in all_pairs if d is not None and y.requires_grad]
            if not pairs:
                return
            loss = scalar_with_cotangents([y for y, _ in pairs], [d for _, d in pairs])
        gradients = torch.autograd.grad(loss, (*parameters, *states), allow_unused=True, materialize_grads=True)
        for total, direct in zip(self.sums, gradients[: len(parameters)], strict=False):
            total += direct.flatten()
        self._add_product(torch.cat(gradients[len(parameters) :], 1), self.P)

    def collect_finals(self, after: Influence, cotangents: Sequence[Tensor | None]) -> None:
        """Add the gradients that come from the states after the last step, given the influence on these."""
        pairs = zip(cotangents, self.states, strict=True)
        d = torch.cat([torch.zeros_like(state) if d is None else d for d, state in pairs], 1)
        self._add_product(d, [value.unflatten(1, (d.shape[1], -1)) for value in after.values])

    def gradients(self) -> list[Tensor]:
        """The gradients of the parameters that require one, and of the initial states."""
        count, rows = len(self.parameters), self.before.rows.squeeze(1)
        of_parameters = [g.view(value.shape) for g, value in zip(self.sums, self.parameters.values(), strict=False)]
        return [*of_parameters, *(torch.empty_like(g).index_copy(0, rows, g) for g in self.sums[count:])]

    def _add_product(self, d: Tensor, influence: Sequence[Tensor]) -> None:
        """Add d P to the gradients, where d (n, S) is the gradient of the states of the first n rows."""
        for total, P in zip(self.sums, influence, strict=True):
            by_row = (d.unsqueeze(1) @ P[: len(d)]).squeeze(1)
            if total.dim() == 1:
                total += by_row.sum(0)
            else:
                total[: len(d)] += by_row

    def _derivatives(self, states: Rows, x: Tensor) -> tuple[Rows, Tensor, Rows]:
        """F, (n, S, *shape) for each parameter, J, and the new states, of one step."""
        by_row = vmap(jacrev(self._row, (0, 1), has_aux=True), (None, 0, 0))
        try:
            (F, J), new = by_row(tuple(self.parameters.values()), states, x)
        except Exception as error:
            name, why = self.segments.cell._get_name(), str(error).partition("\n")[0]
            raise RuntimeError(
                f"RTRL: {name}: expected a step that torch.func can differentiate row by row, got {why}"
            ) from error
        return F, torch.cat(J, -1), new

    def _step(self, parameters: Rows, states: Rows, x: Tensor) -> tuple[Output, State]:
        state: State = states[0] if self.segments.has_single_state else states
        named = self.constants | dict(zip(self.parameters, parameters, strict=True))
        return run_step(self.segments.cell, named, x, state)

    def _row(self, parameters: Rows, states: Rows, x: Tensor) -> tuple[Tensor, Rows]:
        """The states after a step of one row, concatenated and each."""
        _, new = self._step(parameters, tuple(s.unsqueeze(0) for s in states), x.unsqueeze(0))
        rows = tuple(s.squeeze(0) for s in as_tuple(new))
        return torch.cat(rows), rows


def _with_ended(active: Tensor, before: Tensor) -> Tensor:
    """The rows of active sequences, followed by the unchanged rows of those that have ended."""
    return active if len(active) == len(before) else torch.cat((active, before[len(active) :]))
