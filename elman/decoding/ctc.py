"""Decode per-step symbol probabilities to a text: connectionist temporal classification (CTC).

A path has one symbol per step, which may be the blank. Its text results from merging equal adjacent symbols and then
removing blanks. Many paths have the same text:

    p(text | x) = sum over its paths of the product over t of p_t(symbol of the path at t)

A. Graves et al., "Connectionist temporal classification", ICML 2006. The prefix search is that of A. Hannun et al.,
"First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs", arXiv:1408.2873.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating[Any]]
LanguageModel = Callable[[tuple[int, ...]], Reals]  # prefix to log p (K,) of the next symbol; BLANK: the end

BLANK = 0


def best_path(log_p: Reals) -> list[int]:
    """Return the text of the most probable path.

    Args:
        log_p: log probabilities (T, K).

    Returns:
        The symbols of the text.

    >>> best_path(np.log([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]]))
    [1, 1]
    """
    path = log_p.argmax(1)
    starts = np.append(True, path[1:] != path[:-1])
    text: list[int] = path[starts & (path != BLANK)].tolist()
    return text


def search(log_p: Reals, width: int, language_model: LanguageModel | None = None, weight: float = 0.0) -> list[int]:
    """Find the most probable text by prefix beam search, which sums over the paths of each prefix.

    Args:
        log_p: log probabilities (T, K).
        width: beam width.
        language_model: language model; the search then maximizes log p(text | x) + weight * log p(text).
        weight: weight of the language model.

    Returns:
        The symbols of the text.

    >>> log_p = np.log([[0.6, 0.4], [0.6, 0.4]])       # the most probable path is two blanks, 0.36; "1" has 0.64
    >>> best_path(log_p), search(log_p, 4)
    ([], [1])
    """
    beam = _Beam([()], np.zeros(1), np.full(1, -np.inf), np.zeros(1))
    for row in log_p.astype(np.float64):
        beam = _step(beam, row, width, language_model, weight)
    ends = np.array([language_model(prefix)[BLANK] if language_model else 0.0 for prefix in beam.prefixes])
    best = np.argmax(np.logaddexp(beam.blank, beam.symbol) + beam.prior + weight * ends)
    return list(beam.prefixes[int(best)])


class _Beam(NamedTuple):
    """Prefixes and their scores.

    prefixes: the texts so far.
    blank: log p of all paths of each prefix that end in a blank.
    symbol: log p of all paths of each prefix that end in its last symbol.
    prior: weighted log p by the language model.
    """

    prefixes: list[tuple[int, ...]]
    blank: Reals
    symbol: Reals
    prior: Reals


def _step(beam: _Beam, row: Reals, width: int, language_model: LanguageModel | None, weight: float) -> _Beam:
    """Extend the prefixes by one step, with log probabilities (K,) of its symbols."""
    prefixes, total = beam.prefixes, np.logaddexp(beam.blank, beam.symbol)
    last = np.array([prefix[-1] if prefix else BLANK for prefix in prefixes])
    extended, nonempty = total[:, None] + row, np.flatnonzero(last)
    # A repeated symbol is a new one only after a blank.
    extended[nonempty, last[nonempty]] = beam.blank[nonempty] + row[last[nonempty]]
    extended[:, BLANK] = -np.inf
    blank, symbol = total + row[BLANK], np.where(last > 0, beam.symbol + row[last], -np.inf)
    index = {prefix: i for i, prefix in enumerate(prefixes)}
    for i, prefix in enumerate(prefixes):
        parent = index.get(prefix[:-1]) if prefix else None
        if parent is not None:  # both are in the beam: merge the extended parent into the prefix
            symbol[i] = np.logaddexp(symbol[i], extended[parent, last[i]])
            extended[parent, last[i]] = -np.inf
    lm_log_p = np.stack([language_model(prefix) for prefix in prefixes]) if language_model else np.zeros_like(extended)
    prior = np.append(beam.prior, beam.prior[:, None] + weight * lm_log_p)
    blank, symbol = np.append(blank, np.full(extended.size, -np.inf)), np.append(symbol, extended)
    scores = np.logaddexp(blank, symbol) + prior
    best = np.argsort(-scores, kind="stable")[:width]
    best = best[np.isfinite(scores[best])]
    W, K = extended.shape
    texts = [prefixes[k] if k < W else (*prefixes[(k - W) // K], (k - W) % K) for k in best.tolist()]
    return _Beam(texts, blank[best], symbol[best], prior[best])
