"""Beam search: extend a fixed number of the best sequences in parallel."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from elman.engine.torch_private import tree_map_only

Step = Callable[[Tensor | None, Any], tuple[Tensor, Any]]


def search(step: Step, state: Any, B: int, width: int, end: int, max_length: int) -> list[list[int]]:
    """Find the token sequences with the highest mean log probability per token, including the end token.

    Without the mean, every further token would lower the score, and the shortest sequence would win.

    Args:
        step: maps the last tokens (B * width,), None at the first step, and a state to the log probabilities of the
            next tokens (B * width, V) and the next state. The rows of one sequence are adjacent.
        state: initial state, tensors (L, B * width, ...).
        B: batch size.
        width: beam width; 1 is greedy search.
        end: the token that ends a sequence.
        max_length: maximum number of tokens, including the end token. If no beam has ended by then, the best one is
            returned unfinished.

    Returns:
        The tokens of each sequence, without the end token.

    >>> p = torch.tensor([[0.0, 0.6, 0.4], [0.4, 0.3, 0.3], [0.9, 0.1, 0.0]]).log()     # from token 0, 1, 2; 0 ends
    >>> def step(last, state):
    ...     return p[torch.zeros(len(state[0]), dtype=int) if last is None else last], state
    >>> [search(step, torch.zeros(1, width, 1), 1, width, 0, 3) for width in (1, 2)]
    [[[1]], [[2]]]
    """
    log_p, state = step(None, state)
    scores = log_p.new_full((B, width), -torch.inf)
    scores[:, 0] = 0  # at first, all beams of a sequence are equal: use one
    tokens = torch.empty(B, width, 0, dtype=torch.long, device=log_p.device)
    first_rows = width * torch.arange(B, device=log_p.device).unsqueeze(1)
    best: list[tuple[float, list[int]]] = [(-torch.inf, [])] * B
    ended = [0] * B
    for t in range(1, max_length + 1):
        if t > 1:
            log_p, state = step(tokens[:, :, -1].flatten(), state)
        V = log_p.shape[1]
        # Each beam has one candidate that ends, so among 2 * width candidates at least `width` do not end.
        totals, candidates = (scores.unsqueeze(2) + log_p.view(B, width, V)).flatten(1).topk(2 * width)
        rows, token = candidates // V, candidates % V
        ends = token == end
        for b, i in (ends[:, :width] & totals[:, :width].isfinite()).nonzero().tolist():
            if ended[b] < width:
                ended[b] += 1
                best[b] = max(best[b], (float(totals[b, i]) / t, tokens[b, rows[b, i]].tolist()))
        if min(ended) >= width:
            break
        scores, selected = totals.masked_fill(ends, -torch.inf).topk(width)
        rows, token = rows.gather(1, selected), token.gather(1, selected)
        tokens = torch.cat([tokens.take_along_dim(rows.unsqueeze(2), 1), token.unsqueeze(2)], 2)
        origin = (rows + first_rows).flatten()
        state = tree_map_only(Tensor, lambda s: s.index_select(1, origin), state)  # noqa: B023
    else:
        best = [best[b] if ended[b] else (0.0, tokens[b, 0].tolist()) for b in range(B)]
    return [sequence for _, sequence in best]
