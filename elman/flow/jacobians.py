"""How a small change of a state grows or fades from step to step: Jacobians, their products, exponents, the horizon."""

from dataclasses import dataclass

import torch
from torch import Tensor

from elman.flow._call import Call
from elman.flow._replay import Replay, Row

Steps = list[tuple[Replay, int]]
ARRIVES = 0.01  # of a gradient: below this a step is beyond the horizon
PROBES = 8  # directions in which gradients are sent back
WIDEST = 1024  # states together, of which whole Jacobians are worked out


@dataclass(frozen=True)
class Jacobians:
    """What the steps of a cell do to a change of its states. Of R sequences, T steps and S numbers in all states.

    Args:
        exponents: how many times larger a change becomes in each step, as natural logarithms, the largest first: the
            Lyapunov exponents, (R, n).
        decay: of each state, by name, the part of a gradient that is left after k = 0, 1, .. T steps back, by way of
            this state alone at both ends: root mean square over directions and sequences, (T+1,).
        horizon: of each state, after how many steps less than 1 % is left; None if more is left at the beginning.
    """

    call: Call
    sequences: int
    exponents: Tensor
    decay: dict[str, Tensor]
    horizon: dict[str, int | None]

    @property
    def longest(self) -> tuple[str, Tensor]:
        """The state in which a gradient lives longest, and what is left of it there."""
        return max(self.decay.items(), key=lambda item: float(item[1].sum()))

    @property
    def growth(self) -> float:
        """How many times larger a change becomes with each step."""
        return float(self.exponents[:, 0].mean().exp())

    def singular_values(self, window: int = 1) -> Tensor:
        """Of the Jacobian of each step, or of its products over windows of several, one behind the other.

        Args:
            window: steps.

        Returns:
            (T // window, R, S), the last window first in time to end with the last step; the largest value first.

        Raises:
            ValueError: for no steps, or more than there are; for states too wide.
        """
        steps = self.call.forward()
        T, replay = len(steps), steps[0][0]
        S = sum(state.shape[1] for state in replay.before[0])
        if not 1 <= window <= T:
            raise ValueError(f"singular_values: window: expected 1 to {T} steps, got {window}")
        if S > WIDEST:
            raise ValueError(
                f"singular_values: expected states of at most {WIDEST} numbers together, got {S}; exponents, decay and "
                "horizon are there for any width"
            )
        found = []
        for end in range(T, window - 1, -window):
            V = _unit(replay, torch.eye(S), self.sequences)
            for at, t in reversed(steps[end - window : end]):
                V = at.back(t, V, rows=slice(self.sequences))
            J = torch.cat(V, -1).transpose(0, 1).double()
            found.append(torch.linalg.svdvals(J) if J.isfinite().all() else J[..., 0].fill_(torch.nan))
        return torch.stack(found[::-1])


def jacobians(call: Call, sequences: int, steps: int) -> Jacobians:
    """As `Recording.jacobians`, of one call."""
    walked = call.forward()[-steps:]
    last, t = walked[-1]
    sequences = min(sequences, len(last.x[t]))
    decay = {name: _decay(walked, i, sequences) for i, name in enumerate(call.names)}
    horizon = {name: _first_below(values) for name, values in decay.items()}
    return Jacobians(call, sequences, _exponents(walked, sequences), decay, horizon)


def _unit(replay: Replay, directions: Tensor, sequences: int) -> Row:
    """The same directions (n, S) for every sequence, apart by states: (n, R, H) each."""
    states = replay.before[0]
    of_states = directions.to(states[0]).split([state.shape[1] for state in states], 1)
    return tuple(d.unsqueeze(1).expand(-1, sequences, -1) for d in of_states)


def _orthonormal(n: int, width: int) -> Tensor:
    """Directions at right angles, always the same."""
    generator = torch.Generator().manual_seed(0)
    found: Tensor = torch.linalg.qr(torch.randn(width, n, generator=generator, dtype=torch.float64)).Q.T
    return found


def _decay(steps: Steps, i: int, sequences: int) -> Tensor:
    """What is left in state i of a gradient that begins there, scaled up again whenever it gets small."""
    replay, _ = steps[0]
    width = replay.before[0][i].shape[1]
    n = min(PROBES, width)
    before = sum(state.shape[1] for state in replay.before[0][:i])
    S = sum(state.shape[1] for state in replay.before[0])
    directions = torch.zeros(n, S, dtype=torch.float64)
    directions[:, before : before + width] = _orthonormal(n, width)
    V, scale, left = _unit(replay, directions, sequences), 1.0, [1.0]
    for at, t in reversed(steps):
        V = at.back(t, V, rows=slice(sequences))
        left.append(scale * float(V[i].double().square().sum(-1).mean().sqrt()))
        size = float(torch.cat(V, -1).double().square().sum(-1).mean().sqrt())
        if not 1e-6 < size < 1e6 and 0 < size < float("inf"):
            V, scale = tuple(v / size for v in V), scale * size
    return torch.tensor(left, dtype=torch.float64)


def _first_below(left: Tensor) -> int | None:
    below = (left < ARRIVES).nonzero()
    return int(below[0]) if len(below) else None


def _exponents(steps: Steps, sequences: int) -> Tensor:
    """By QR: directions are kept at right angles, and what that takes from their lengths is added up."""
    replay, _ = steps[0]
    S = sum(state.shape[1] for state in replay.before[0])
    widths = [state.shape[1] for state in replay.before[0]]
    n = min(PROBES, S)
    V = torch.cat(_unit(replay, _orthonormal(n, S), sequences), -1)
    total = torch.zeros(sequences, n, dtype=torch.float64)
    for at, t in reversed(steps):
        V = torch.cat(at.back(t, V.split(widths, -1), rows=slice(sequences)), -1)
        Q, R = torch.linalg.qr(V.permute(1, 2, 0).double())
        total += R.diagonal(dim1=-2, dim2=-1).abs().log()
        V = Q.permute(2, 0, 1).to(V.dtype)
    ordered: Tensor = total.div(len(steps)).sort(-1, descending=True).values
    return ordered
