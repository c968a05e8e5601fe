"""RTRL, step by step: how the influence of the parameters on the states changes, and the gradients it gives."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from elman.bptt._influence import Influence
from elman.bptt._segments import Segments
from elman.engine import Output, State, as_tuple
from elman.engine.eager import run_step
from elman.engine.trace.cotangents import scalar_with_cotangents

Rows = tuple[Tensor, ...]


class InfluenceSteps:
    """A walk through the steps of a call with the influence P on its states: of step t, P_t = J_t P_{t-1} + F_t.

    J_t (B, S, S) are the derivatives of the states after step t by those before, F_t (B, S, P) those by the parameters
    that this step alone makes.

    Args:
        segments: runs steps.
        before: the influence on the states before the first step.
        kept: x, these states and the parameters.
    """

    def __init__(self, segments: Segments, before: Influence, kept: Sequence[Tensor]) -> None:
        self.segments, self.before, self.steps = segments, before, segments.by_step(kept[0])
        self.states = list(kept[1 : 1 + segments.states])
        named = dict(zip(segments.names, kept[1 + segments.states :], strict=True))
        self.asked = {name: named.pop(name) for name in before.names}
        self.others = named
        S = sum(state.shape[1] for state in self.states)
        self.P = [value.unflatten(1, (S, -1)) for value in before.values]
        self.sums = [P.new_zeros(P.shape[2]) for P in self.P[: len(self.asked)]]  # of parameters; of others row by row
        self.sums += [P.new_zeros(len(P), P.shape[2]) for P in self.P[len(self.asked) :]]

    def advance(self, t: int) -> None:
        """Take step t. States and influence of sequences that have ended stay as they are."""
        n, count = len(self.steps[t]), len(self.asked)
        F, J, new = self._derivatives(tuple(s[:n] for s in self.states), self.steps[t])
        now = [torch.baddbmm(f.flatten(2), J, P[:n]) for f, P in zip(F, self.P[:count], strict=True)]
        now += [J @ P[:n] for P in self.P[count:]]
        self.P = [_followed(value, P) for value, P in zip(now, self.P, strict=True)]
        self.states = [_followed(value, s) for value, s in zip(new, self.states, strict=True)]

    def influence(self) -> Influence:
        """That on the states as they are now."""
        return replace(self.before, values=tuple(P.flatten(1) for P in self.P))

    def collect(self, t: int, cotangents: Sequence[Tensor | None]) -> None:
        """Add to the gradients what those of the outputs of step t, which is yet to be taken, make of them."""
        n = len(self.steps[t])
        values = tuple(value.detach().requires_grad_() for value in self.asked.values())
        states = tuple(s[:n].detach().requires_grad_() for s in self.states)
        with torch.enable_grad():
            output, _ = self._step(values, states, self.steps[t])
            given = zip(output.values() if isinstance(output, dict) else (output,), cotangents, strict=True)
            pairs = [(y, d) for y, d in given if d is not None and y.requires_grad]
            if not pairs:
                return
            loss = scalar_with_cotangents([y for y, _ in pairs], [d for _, d in pairs])
        found = torch.autograd.grad(loss, (*values, *states), allow_unused=True, materialize_grads=True)
        for total, direct in zip(self.sums, found[: len(values)], strict=False):
            total += direct.flatten()
        self._through(torch.cat(found[len(values) :], 1), self.P)

    def collect_finals(self, after: Influence, cotangents: Sequence[Tensor | None]) -> None:
        """Add what those of the states after the last step make of them, by the influence on these."""
        pairs = zip(cotangents, self.states, strict=True)
        d = torch.cat([torch.zeros_like(state) if d is None else d for d, state in pairs], 1)
        self._through(d, [value.unflatten(1, (d.shape[1], -1)) for value in after.values])

    def gradients(self) -> list[Tensor]:
        """Of the parameters that ask for one, and of the initial states."""
        count, rows = len(self.asked), self.before.rows.squeeze(1)
        of_parameters = [g.view(value.shape) for g, value in zip(self.sums, self.asked.values(), strict=False)]
        return [*of_parameters, *(torch.empty_like(g).index_copy(0, rows, g) for g in self.sums[count:])]

    def _through(self, d: Tensor, influence: Sequence[Tensor]) -> None:
        """Add d P, d (n, S) being the gradient of the states of the first n rows."""
        for total, P in zip(self.sums, influence, strict=True):
            by_row = (d.unsqueeze(1) @ P[: len(d)]).squeeze(1)
            if total.dim() == 1:
                total += by_row.sum(0)
            else:
                total[: len(d)] += by_row

    def _derivatives(self, states: Rows, x: Tensor) -> tuple[Rows, Tensor, Rows]:
        """Of the states after a step by each parameter, (n, S, *shape), and by those before; and the new states."""
        by_row = vmap(jacrev(self._row, (0, 1), has_aux=True), (None, 0, 0))
        try:
            (F, J), new = by_row(tuple(self.asked.values()), states, x)
        except Exception as error:
            name, why = self.segments.cell._get_name(), str(error).partition("\n")[0]
            raise RuntimeError(
                f"RTRL: {name}: expected a step that torch.func can differentiate row by row, got {why}"
            ) from error
        return F, torch.cat(J, -1), new

    def _step(self, values: Rows, states: Rows, x: Tensor) -> tuple[Output, State]:
        state: State = states[0] if self.segments.single else states
        named = self.others | dict(zip(self.asked, values, strict=True))
        return run_step(self.segments.cell, named, x, state)

    def _row(self, values: Rows, states: Rows, x: Tensor) -> tuple[Tensor, Rows]:
        """The states after a step of one row, side by side, and each."""
        _, new = self._step(values, tuple(s.unsqueeze(0) for s in states), x.unsqueeze(0))
        rows = tuple(s.squeeze(0) for s in as_tuple(new))
        return torch.cat(rows), rows


def _followed(now: Tensor, before: Tensor) -> Tensor:
    """The rows of now, and behind them those of before that are not among them."""
    return now if len(now) == len(before) else torch.cat((now, before[len(now) :]))
