"""The derivatives of a state by the parameters, which RTRL carries from call to call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

KEY = "elman.bptt.RTRL"


@dataclass(frozen=True, eq=False)
class Influence:
    """The derivatives of the S columns of all states of a cell, row by row of the batch.

    Args:
        cell: whose states they are.
        names: of its parameters that ask for a gradient.
        initial: the states before the first step, those of them that ask for a gradient, each (B, width).
        values: the derivatives by each parameter (B, S * size), then by each of these, by the columns of the same row.
        rows: (B, 1), of each row, which one of `initial` is its own: layers may sort them.
    """

    cell: nn.Module
    names: tuple[str, ...]
    initial: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    rows: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Influence":
        """With the rows in another order, into which `move` brings those of a state (B, width)."""
        return replace(self, values=tuple(map(move, self.values)), rows=move(self.rows))

    def label(self, states: Sequence[Tensor]) -> None:
        """Let these states have this influence.

        It lies at the tensor's place in autograd's graph. So whatever is done to a state, `detach` above all, makes one
        that does not have it; and with the state it goes.
        """
        for place, state in enumerate(states):
            _noted(state)[KEY, state.output_nr] = self, place


def influence_of(states: Sequence[Tensor]) -> Influence | None:
    """The influence that all of these states have in common, in this order, if there is one."""
    found: set[Influence | None] = set()
    for place, state in enumerate(states):
        there = None if state.grad_fn is None else _noted(state).get((KEY, state.output_nr))
        found.add(there[0] if there and there[1] == place else None)
    return found.pop() if len(found) == 1 else None


def initial_influence(
    cell: nn.Module, names: Sequence[str], sizes: Sequence[int], states: Sequence[Tensor]
) -> Influence:
    """The influence on states of which none is known: each is its own derivative, and none depends on a parameter.

    Args:
        cell: whose states they are.
        names: of the parameters that ask for a gradient.
        sizes: how many numbers each of them has.
        states: each (B, width).
    """
    flat = torch.cat([state.detach() for state in states], 1)
    B, S = flat.shape
    of_parameters = [flat.new_zeros(B, S * size) for size in sizes]
    own = torch.eye(S, dtype=flat.dtype, device=flat.device).split([state.shape[1] for state in states], 1)
    asked = [(state, value) for state, value in zip(states, own, strict=True) if state.requires_grad]
    of_initial = [value.flatten().expand(B, -1) for _, value in asked]
    rows = torch.arange(B, device=flat.device).unsqueeze(1)
    return Influence(cell, tuple(names), tuple(s for s, _ in asked), (*of_parameters, *of_initial), rows)


def carry_influence(states: Sequence[Tensor], new: Sequence[Tensor], move: Callable[[Tensor], Tensor]) -> None:
    """Let what a layer makes of states, in another form, have the influence that these have.

    Args:
        states: that may have one.
        new: what they have become.
        move: what brought their rows into the order of the new ones.
    """
    found = influence_of(states)
    if found is not None and torch.is_grad_enabled():
        found.moved(move).label(new)


def _noted(state: Tensor) -> dict[object, tuple[Influence, int]]:
    """What is noted at the place of a tensor in autograd's graph."""
    return state.grad_fn.metadata  # type: ignore[union-attr, return-value]  # a property, typed as a method
