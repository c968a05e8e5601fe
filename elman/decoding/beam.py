"""Beam search: of all the ways to go on, so many are followed side by side."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from elman.engine.torch_private import tree_map_only

Step = Callable[[Tensor | None, Any], tuple[Tensor, Any]]


def search(step: Step, state: Any, B: int, width: int, end: int, longest: int) -> list[list[int]]:
    """The token sequences that are likeliest by the mean of log p over their tokens, the end among them.

    Without the mean, every further token would make a sequence less likely, and the shortest would win.

    Args:
        step: from the last tokens (B * width,), None at the beginning, and a state, to the log-probabilities of the
            next tokens (B * width, V) and the next state. The rows of one sequence stand together.
        state: the first, tensors (L, B * width, ...).
        B: how many sequences are sought.
        width: of the beam: 1 always takes the likeliest token.
        end: the token that ends a sequence.
        longest: tokens, the end among them. Where no sequence has ended by then, the likeliest is taken as it is.

    Returns:
        Tokens of each, without the end.

    >>> p = torch.tensor([[0.0, 0.6, 0.4], [0.4, 0.3, 0.3], [0.9, 0.1, 0.0]]).log()     # from token 0, 1, 2; 0 ends
    >>> def step(last, state):
    ...     return p[torch.zeros(len(state[0]), dtype=int) if last is None else last], state
    >>> [search(step, torch.zeros(1, width, 1), 1, width, 0, 3) for width in (1, 2)]
    [[[1]], [[2]]]
    """
    scores = torch.full((B, width), -torch.inf)
    scores[:, 0] = 0  # the others would be the same once more
    tokens = torch.empty(B, width, 0, dtype=torch.long)
    best: list[tuple[float, list[int]]] = [(-torch.inf, [])] * B
    ended = [0] * B
    last = None
    for t in range(1, longest + 1):
        nats, state = step(last, state)
        V = nats.shape[1]
        # A row ends in one way only, so that twice as many as are followed have enough that do not end.
        totals, found = (scores.unsqueeze(2) + nats.view(B, width, V)).flatten(1).topk(2 * width)
        rows, token = found // V, found % V
        ends = token == end
        for b, i in (ends[:, :width] & totals[:, :width].isfinite()).nonzero().tolist():
            if ended[b] < width:
                ended[b] += 1
                best[b] = max(best[b], (float(totals[b, i]) / t, tokens[b, rows[b, i]].tolist()))
        if min(ended) >= width:
            break
        scores, kept = totals.masked_fill(ends, -torch.inf).topk(width)
        rows, token = rows.gather(1, kept), token.gather(1, kept)
        tokens = torch.cat([tokens.take_along_dim(rows.unsqueeze(2), 1), token.unsqueeze(2)], 2)
        of = (rows + width * torch.arange(B).unsqueeze(1)).flatten()
        state = tree_map_only(Tensor, lambda s: s.index_select(1, of), state)  # noqa: B023
        last = token.flatten()
    else:
        best = [best[b] if ended[b] else (0.0, tokens[b, 0].tolist()) for b in range(B)]
    return [found for _, found in best]
