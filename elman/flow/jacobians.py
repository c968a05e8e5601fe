"""Jacobians of states between steps: products, singular values, exponents, horizon."""

from dataclasses import dataclass

import torch
from torch import Tensor

from elman.flow._memory import memory_states
from elman.flow._recorded_call import RecordedCall
from elman.flow._replay import Replay

Walk = list[tuple[Replay, int, slice]]  # for each step from the last: its replay, its index there, its active rows
HORIZON_SHARE = 0.01  # of a gradient: steps back that less than this reaches are beyond the horizon
PROBES = 8  # directions in which gradients are sent back
MAX_STATE_SIZE = 1024  # of all states together, for singular values of whole Jacobians


@dataclass(frozen=True)
class Jacobians:
    """How small changes of a cell's states grow or decay over R sequences of at most T steps.

    Each sequence is followed back from its own end. S is the size of all states together.

    Args:
        call: the recorded call.
        steps: number of steps followed in each sequence, (R,).
        memory: names of the memory states: the loss reaches them, and their gradients reach the parameters or the
            input.
        exponents: Lyapunov exponents of the memory states, the largest first, (R, n): natural logarithms of the growth
            per step. The first quarter of the steps, in which directions turn to those of largest growth, is not
            counted.
        decay: for each state, the share of a gradient that is left after k = 0, 1, .. T steps back, (T+1,). The
            gradient starts in this state alone, and only its part in this state is measured: root mean square over
            directions and over the sequences that have k steps.
        horizon: for each state, the number of steps after which less than 1 % is left; None if more is left at the
            first step.
    """

    call: RecordedCall
    steps: Tensor
    memory: tuple[str, ...]
    exponents: Tensor
    decay: dict[str, Tensor]
    horizon: dict[str, int | None]

    @property
    def longest(self) -> tuple[str, Tensor]:
        """The memory state in which gradients live longest, and its decay."""
        name = max(self.memory, key=lambda name: float(self.decay[name].sum()))
        return name, self.decay[name]

    def rate(self, name: str) -> float:
        """Return the growth factor of a gradient of a state per step back.

        It is the geometric mean up to the horizon, or up to the first step.

        Args:
            name: a state, one of those in `decay`.
        """
        decay, steps = self.decay[name], self.horizon[name] or len(self.decay[name]) - 1
        rate: float = float(decay[steps]) ** (1 / steps)
        return rate

    @property
    def growth(self) -> float:
        """The growth factor of a change per step: the geometric mean over all steps of all sequences."""
        return float((self.exponents[:, 0] * self.steps).sum().div(self.steps.sum()).exp())

    def singular_values(self, window: int = 1) -> Tensor:
        """Return the singular values of the Jacobian of each step, or of products over consecutive windows.

        Args:
            window: number of steps in a window.

        Returns:
            (T // window, R, S), in order of time, of windows the last of which ends with the last step; the largest
            value first. NaN for a sequence that ends before the window does.

        Raises:
            ValueError: for a window that is not 1 to T steps; for states too wide.
        """
        steps = self.call.forward_steps()
        T, R, S = len(steps), len(self.steps), sum(_widths(steps[0][0]))
        if not 1 <= window <= T:
            raise ValueError(f"singular_values: window: expected 1 to {T} steps, got {window}")
        if S > MAX_STATE_SIZE:
            raise ValueError(
                f"singular_values: expected at most {MAX_STATE_SIZE} state units in total, got {S}; exponents, decay "
                "and horizon work for any width"
            )
        values = torch.full((T // window, R, S), torch.nan, dtype=torch.float64)
        for i in range(T // window):
            end = T - i * window
            last, t = steps[end - 1]
            rows = slice(min(R, len(last.x[t])))
            V = _repeat_directions(last, torch.eye(S), rows.stop)
            for replay, t in reversed(steps[end - window : end]):
                V = _propagate_back(replay, t, V, rows)
            J = V.transpose(0, 1).double().cpu()
            finite = J.isfinite().all(-1).all(-1)
            values[-1 - i, rows][finite] = torch.linalg.svdvals(J[finite])
        return values


def count_sequences(call: RecordedCall) -> int:
    """Return the number of sequences that have a step."""
    return 0 if call.label.layout.is_empty else len(call.forward_steps()[0][0].x[0])


def compute_jacobians(call: RecordedCall, sequences: int, steps: int) -> Jacobians:
    """Follow gradients back through at most `steps` steps of the longest `sequences` sequences of a call."""
    if not count_sequences(call):
        raise ValueError("flow.jacobians: expected a batch with at least one time step, got empty sequences")
    walk, lengths = _walk(call, sequences, steps)
    decay = {name: _decay(walk, i, lengths) for i, name in enumerate(call.names)}
    horizon = {name: _first_below(values) for name, values in decay.items()}
    memory = memory_states(call, [(replay, t) for replay, t, _ in walk])
    is_memory = torch.tensor([name in memory for name in call.names])
    return Jacobians(call, lengths, memory, _exponents(walk, lengths, is_memory), decay, horizon)


def _walk(call: RecordedCall, sequences: int, steps: int) -> tuple[Walk, Tensor]:
    """Return the steps from the last to the first, each with the rows that go back through it, and how many steps each
    sequence goes back from its own end.
    """
    forward = call.forward_steps()
    # The longest sequences come first, so those that have a step are its first rows.
    rows = [min(len(replay.x[t]), sequences) for replay, t in forward]
    walk, lengths = [], torch.zeros(rows[0], dtype=torch.int64)
    for step in reversed(range(len(forward))):
        finished = rows[step + steps] if step + steps < len(forward) else 0
        if finished < rows[step]:
            walk.append((*forward[step], slice(finished, rows[step])))
            lengths[finished : rows[step]] += 1
    return walk, lengths


def _widths(replay: Replay) -> list[int]:
    return [state.shape[1] for state in replay.states_before[0]]


def _repeat_directions(replay: Replay, directions: Tensor, sequences: int) -> Tensor:
    """Repeat directions (n, S) for every sequence, (n, R, S)."""
    return directions.to(replay.states_before[0][0]).unsqueeze(1).repeat(1, sequences, 1)


def _propagate_back(replay: Replay, t: int, V: Tensor, rows: slice) -> Tensor:
    """Propagate gradients (n, R, S) of the states after a step to the states before it."""
    return torch.cat(replay.backward(t, V.split(_widths(replay), -1), rows=rows), -1)


def _orthonormal(n: int, width: int) -> Tensor:
    """Return n orthonormal directions, the same in every call."""
    # An unusual seed: with the seed of a model, directions could coincide with its weights.
    generator = torch.Generator().manual_seed(20_480_625)
    directions: Tensor = torch.linalg.qr(torch.randn(width, n, generator=generator, dtype=torch.float64)).Q.T
    return directions


def _decay(walk: Walk, i: int, lengths: Tensor) -> Tensor:
    """Return the share of a gradient that starts in state i and is left in it after each number of steps back, (T+1,).

    Gradients are rescaled when they get very small or large.
    """
    widths = _widths(walk[0][0])
    own = slice(sum(widths[:i]), sum(widths[: i + 1]))
    directions = torch.zeros(min(PROBES, widths[i]), sum(widths), dtype=torch.float64)
    directions[:, own] = _orthonormal(len(directions), widths[i])
    R = len(lengths)
    V, scale = _repeat_directions(walk[0][0], directions, R), torch.ones(R, dtype=torch.float64)
    shares = torch.ones(int(lengths.max()) + 1, R, dtype=torch.float64)
    steps_back = torch.zeros_like(lengths)
    for replay, t, rows in walk:
        v = _propagate_back(replay, t, V[:, rows], rows)
        steps_back[rows] += 1
        shares[steps_back[rows], torch.arange(R)[rows]] = scale[rows] * _mean_norm(v[..., own])
        size = _mean_norm(v)
        extreme = ((size < 1e-6) | (size > 1e6)) & (size > 0) & size.isfinite()
        if extreme.any():
            factor = size.where(extreme, 1.0)
            v, scale[rows] = v / factor.to(v).unsqueeze(-1), scale[rows] * factor
        V[:, rows] = v
    return _mean_over_sequences(shares, lengths)


def _mean_norm(v: Tensor) -> Tensor:
    """Return the norm for each sequence, root mean square over directions, (R,)."""
    norms: Tensor = torch.linalg.vector_norm(v, dim=(0, 2), dtype=torch.float64).cpu()
    return norms.div(len(v) ** 0.5)


def _mean_over_sequences(shares: Tensor, lengths: Tensor) -> Tensor:
    """Return the root mean square over the sequences that have enough steps."""
    active = torch.arange(len(shares)).unsqueeze(1) <= lengths
    shares = shares.where(active, 0.0)
    info = torch.finfo(shares.dtype)
    largest = shares.amax(1, keepdim=True).clamp(info.tiny, info.max)  # divided out, since its square may overflow
    mean: Tensor = largest.squeeze(1) * (shares / largest).square().sum(1).div(active.sum(1)).sqrt()
    return mean


def _first_below(decay: Tensor) -> int | None:
    below = (decay < HORIZON_SHARE).nonzero()
    return int(below[0]) if len(below) else None


def _exponents(walk: Walk, lengths: Tensor, is_memory: Tensor) -> Tensor:
    """Compute Lyapunov exponents by QR: average the logarithms of R's diagonal while Q keeps directions orthonormal.

    Args:
        walk: the steps.
        lengths: number of steps of each sequence.
        is_memory: mask of the states; a gradient that reaches one outside it never returns.
    """
    first, widths = walk[0][0], torch.tensor(_widths(walk[0][0]))
    mask = is_memory.repeat_interleave(widths)
    S = int(mask.sum())
    directions = torch.zeros(min(PROBES, S), len(mask), dtype=torch.float64)
    directions[:, mask] = _orthonormal(len(directions), S)
    V = _repeat_directions(first, directions, len(lengths))
    total = torch.zeros(len(lengths), len(V), dtype=torch.float64)
    steps_back, warmup = torch.zeros_like(lengths), lengths // 4
    for replay, t, rows in walk:
        v = _propagate_back(replay, t, V[:, rows], rows) * mask.to(V)
        Q, R = torch.linalg.qr(v.permute(1, 2, 0).double())
        steps_back[rows] += 1
        counted = (steps_back > warmup)[rows].unsqueeze(1)
        total[rows] += R.diagonal(dim1=-2, dim2=-1).abs().log().cpu().where(counted, 0.0)
        V[:, rows] = Q.permute(2, 0, 1).to(V.dtype)
    exponents: Tensor = total.div((lengths - warmup).unsqueeze(1)).sort(-1, descending=True).values
    return exponents
