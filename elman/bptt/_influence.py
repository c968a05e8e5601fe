"""The derivatives of a state with respect to the parameters, which RTRL carries from call to call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

KEY = "elman.bptt.RTRL"


@dataclass(frozen=True, eq=False)
class Influence:
    """The derivatives of the S columns of all states of a cell, for each row of the batch.

    Args:
        cell: whose states they are.
        names: of its parameters that require a gradient.
        initial: the states before the first step that require a gradient, each (B, width).
        values: the derivatives with respect to each parameter, (B, S * size), then with respect to each of `initial`,
            by the columns of the same row.
        rows: (B, 1), for each row, its row in `initial`: layers may sort the batch.
    """

    cell: nn.Module
    names: tuple[str, ...]
    initial: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    rows: Tensor

    def reordered(self, reorder: Callable[[Tensor], Tensor]) -> "Influence":
        """This influence with its rows in another order; `reorder` does that to a state (B, width)."""
        return replace(self, values=tuple(map(reorder, self.values)), rows=reorder(self.rows))

    def attach(self, states: Sequence[Tensor]) -> None:
        """Attach this influence to its states.

        It is stored in the metadata of the states' node in autograd's graph. So whatever is computed from a state,
        by `detach` above all, does not have it, and it is freed with the state.
        """
        for index, state in enumerate(states):
            _metadata(state)[KEY, state.output_nr] = self, index


def influence_of(states: Sequence[Tensor]) -> Influence | None:
    """Return the influence attached to all of these states in this order; None if there is none."""
    influences: set[Influence | None] = set()
    for index, state in enumerate(states):
        entry = None if state.grad_fn is None else _metadata(state).get((KEY, state.output_nr))
        influences.add(entry[0] if entry and entry[1] == index else None)
    return influences.pop() if len(influences) == 1 else None


def initial_influence(
    cell: nn.Module, names: Sequence[str], sizes: Sequence[int], states: Sequence[Tensor]
) -> Influence:
    """Make the influence on initial states: each is its own derivative, and none depends on a parameter.

    Args:
        cell: whose states they are.
        names: of the parameters that require a gradient.
        sizes: the number of elements of each of these parameters.
        states: each (B, width).
    """
    flat = torch.cat([state.detach() for state in states], 1)
    B, S = flat.shape
    of_parameters = [flat.new_zeros(B, S * size) for size in sizes]
    identity = torch.eye(S, dtype=flat.dtype, device=flat.device).split([state.shape[1] for state in states], 1)
    pairs = [(state, block) for state, block in zip(states, identity, strict=True) if state.requires_grad]
    of_initial = [block.flatten().expand(B, -1) for _, block in pairs]
    rows = torch.arange(B, device=flat.device).unsqueeze(1)
    return Influence(cell, tuple(names), tuple(state for state, _ in pairs), (*of_parameters, *of_initial), rows)


def carry_influence(states: Sequence[Tensor], new: Sequence[Tensor], reorder: Callable[[Tensor], Tensor]) -> None:
    """Attach the influence of states, if they have one, to what a layer has made of them.

    Args:
        states: that may have an influence.
        new: the same states in another layout.
        reorder: brought their rows into the order of the new ones.
    """
    influence = influence_of(states)
    if influence is not None and torch.is_grad_enabled():
        influence.reordered(reorder).attach(new)


def _metadata(state: Tensor) -> dict[object, tuple[Influence, int]]:
    """The metadata of the node of autograd's graph that computed a tensor."""
    return state.grad_fn.metadata  # type: ignore[union-attr, return-value]  # a property, typed as a method
