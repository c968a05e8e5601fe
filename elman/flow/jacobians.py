"""Jacobians of states between steps: products, singular values, exponents, horizon."""

from dataclasses import dataclass

import torch
from torch import Tensor

from elman.flow._memory import memories
from elman.flow._recorded_call import RecordedCall
from elman.flow._replay import Replay

Walk = list[tuple[Replay, int, slice]]
ARRIVES = 0.01  # of a gradient: below this a step is beyond the horizon
PROBES = 8  # directions in which gradients are sent back
WIDEST = 1024  # states together, of which whole Jacobians are worked out


@dataclass(frozen=True)
class Jacobians:
    """What the steps of a cell do to a change of its states. Of R sequences, each followed back from its own end, of at
    most T steps, and of S numbers in all states.

    Args:
        steps: how many of each sequence were looked at, (R,).
        memory: the states that count as memory, by name: the loss reaches them, and from them a gradient comes to the
            parameters or the input.
        exponents: how many times larger a change of these becomes in each step, as natural logarithms, the largest
            first: the Lyapunov exponents, (R, n). The first quarter of the way turns directions to where they grow
            most, and is not counted.
        decay: of each state, by name, the part of a gradient that is left after k = 0, 1, .. T steps back, by way of
            this state alone at both ends: root mean square over directions, and over the sequences that have k steps,
            (T+1,).
        horizon: of each state, after how many steps less than 1 % is left; None if more is left at the beginning.
    """

    call: RecordedCall
    steps: Tensor
    memory: tuple[str, ...]
    exponents: Tensor
    decay: dict[str, Tensor]
    horizon: dict[str, int | None]

    @property
    def longest(self) -> tuple[str, Tensor]:
        """The state of the memory in which a gradient lives longest, and what is left of it there."""
        name = max(self.memory, key=lambda name: float(self.decay[name].sum()))
        return name, self.decay[name]

    def rate(self, name: str) -> float:
        """How many times larger a gradient of a state becomes with each step, on its way to the horizon, or to the
        beginning: the geometric mean.
        """
        left, steps = self.decay[name], self.horizon[name] or len(self.decay[name]) - 1
        rate: float = float(left[steps]) ** (1 / steps)
        return rate

    @property
    def growth(self) -> float:
        """How many times larger a change becomes with each step: the geometric mean over all steps of all sequences."""
        return float((self.exponents[:, 0] * self.steps).sum().div(self.steps.sum()).exp())

    def singular_values(self, window: int = 1) -> Tensor:
        """Of the Jacobian of each step, or of its products over windows of several, one behind the other.

        Args:
            window: steps.

        Returns:
            (T // window, R, S), the last window first in time to end with the last step; the largest value first. NaN
            for a sequence that is over before the window is.

        Raises:
            ValueError: for no steps, or more than there are; for states too wide.
        """
        steps = self.call.forward()
        T, R, S = len(steps), len(self.steps), sum(_widths(steps[0][0]))
        if not 1 <= window <= T:
            raise ValueError(f"singular_values: window: expected 1 to {T} steps, got {window}")
        if S > WIDEST:
            raise ValueError(
                f"singular_values: expected states of at most {WIDEST} numbers together, got {S}; exponents, decay and "
                "horizon are there for any width"
            )
        found = torch.full((T // window, R, S), torch.nan, dtype=torch.float64)
        for i in range(T // window):
            end = T - i * window
            last, t = steps[end - 1]
            rows = slice(min(R, len(last.x[t])))
            V = _everywhere(last, torch.eye(S), rows.stop)
            for at, t in reversed(steps[end - window : end]):
                V = _back(at, t, V, rows)
            J = V.transpose(0, 1).double().cpu()
            finite = J.isfinite().all(-1).all(-1)
            found[-1 - i, rows][finite] = torch.linalg.svdvals(J[finite])
        return found


def sequences_of(call: RecordedCall) -> int:
    """How many have a step at all."""
    return 0 if call.label.layout.is_empty else len(call.forward()[0][0].x[0])


def jacobians(call: RecordedCall, sequences: int, steps: int) -> Jacobians:
    """As `Recording.jacobians`, of one call."""
    if not sequences_of(call):
        raise ValueError("flow.jacobians: expected a batch with a sequence that has a step, got one without")
    walk, lengths = _walk(call, sequences, steps)
    decay = {name: _decay(walk, i, lengths) for i, name in enumerate(call.names)}
    horizon = {name: _first_below(values) for name, values in decay.items()}
    memory = memories(call, [(at, t) for at, t, _ in walk])
    counts = torch.tensor([name in memory for name in call.names])
    return Jacobians(call, lengths, memory, _exponents(walk, lengths, counts), decay, horizon)


def _walk(call: RecordedCall, sequences: int, steps: int) -> tuple[Walk, Tensor]:
    """The steps to go back, each with the rows that do, and how many each sequence takes: from its own end."""
    forward = call.forward()
    # The longest sequences come first: those that have a step are the first rows.
    rows = [min(len(replay.x[t]), sequences) for replay, t in forward]
    walk, lengths = [], torch.zeros(rows[0], dtype=torch.int64)
    for step in reversed(range(len(forward))):
        done = rows[step + steps] if step + steps < len(forward) else 0
        if done < rows[step]:
            walk.append((*forward[step], slice(done, rows[step])))
            lengths[done : rows[step]] += 1
    return walk, lengths


def _widths(replay: Replay) -> list[int]:
    return [state.shape[1] for state in replay.before[0]]


def _everywhere(replay: Replay, directions: Tensor, sequences: int) -> Tensor:
    """The same directions (n, S) for every sequence, (n, R, S)."""
    return directions.to(replay.before[0][0]).unsqueeze(1).repeat(1, sequences, 1)


def _back(replay: Replay, t: int, V: Tensor, rows: slice) -> Tensor:
    """Gradients (n, R, S) of the states after a step, taken back through it."""
    return torch.cat(replay.back(t, V.split(_widths(replay), -1), rows=rows), -1)


def _orthonormal(n: int, width: int) -> Tensor:
    """Directions at right angles, always the same."""
    generator = torch.Generator().manual_seed(20_480_625)  # one that nobody else begins with: directions like no W's
    found: Tensor = torch.linalg.qr(torch.randn(width, n, generator=generator, dtype=torch.float64)).Q.T
    return found


def _decay(walk: Walk, i: int, lengths: Tensor) -> Tensor:
    """What is left in state i of a gradient that begins there, scaled up again whenever it gets small."""
    widths = _widths(walk[0][0])
    own = slice(sum(widths[:i]), sum(widths[: i + 1]))
    directions = torch.zeros(min(PROBES, widths[i]), sum(widths), dtype=torch.float64)
    directions[:, own] = _orthonormal(len(directions), widths[i])
    R = len(lengths)
    V, scale = _everywhere(walk[0][0], directions, R), torch.ones(R, dtype=torch.float64)
    left = torch.ones(int(lengths.max()) + 1, R, dtype=torch.float64)
    taken = torch.zeros_like(lengths)
    for at, t, rows in walk:
        v = _back(at, t, V[:, rows], rows)
        taken[rows] += 1
        left[taken[rows], torch.arange(R)[rows]] = scale[rows] * _size(v[..., own])
        size = _size(v)
        extreme = ((size < 1e-6) | (size > 1e6)) & (size > 0) & size.isfinite()
        if extreme.any():
            by = size.where(extreme, 1.0)
            v, scale[rows] = v / by.to(v).unsqueeze(-1), scale[rows] * by
        V[:, rows] = v
    return _mean(left, lengths)


def _size(v: Tensor) -> Tensor:
    """Of each sequence, root mean square over directions, (R,)."""
    norms: Tensor = torch.linalg.vector_norm(v, dim=(0, 2), dtype=torch.float64).cpu()
    return norms.div(len(v) ** 0.5)


def _mean(left: Tensor, lengths: Tensor) -> Tensor:
    """Root mean square over those sequences that have so many steps."""
    has = torch.arange(len(left)).unsqueeze(1) <= lengths
    left = left.where(has, 0.0)
    info = torch.finfo(left.dtype)
    most = left.amax(1, keepdim=True).clamp(info.tiny, info.max)  # whose square may be too large
    found: Tensor = most.squeeze(1) * (left / most).square().sum(1).div(has.sum(1)).sqrt()
    return found


def _first_below(left: Tensor) -> int | None:
    below = (left < ARRIVES).nonzero()
    return int(below[0]) if len(below) else None


def _exponents(walk: Walk, lengths: Tensor, counts: Tensor) -> Tensor:
    """By QR: directions are kept at right angles, and what that takes from their lengths is added up.

    Args:
        walk: the steps.
        lengths: of the sequences.
        counts: which states do. A gradient that has come to another one never comes back.
    """
    first, widths = walk[0][0], torch.tensor(_widths(walk[0][0]))
    within = counts.repeat_interleave(widths)
    S = int(within.sum())
    directions = torch.zeros(min(PROBES, S), len(within), dtype=torch.float64)
    directions[:, within] = _orthonormal(len(directions), S)
    V = _everywhere(first, directions, len(lengths))
    total = torch.zeros(len(lengths), len(V), dtype=torch.float64)
    taken, warm = torch.zeros_like(lengths), lengths // 4
    for at, t, rows in walk:
        v = _back(at, t, V[:, rows], rows) * within.to(V)
        Q, R = torch.linalg.qr(v.permute(1, 2, 0).double())
        taken[rows] += 1
        counted = (taken > warm)[rows].unsqueeze(1)
        total[rows] += R.diagonal(dim1=-2, dim2=-1).abs().log().cpu().where(counted, 0.0)
        V[:, rows] = Q.permute(2, 0, 1).to(V.dtype)
    ordered: Tensor = total.div((lengths - warm).unsqueeze(1)).sort(-1, descending=True).values
    return ordered
