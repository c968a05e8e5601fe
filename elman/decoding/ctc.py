"""From probabilities of symbols, step by step, to a text: connectionist temporal classification read backwards.

A path has a symbol for each step, the blank among them. Its text is what is left when of equal symbols side by side one
is kept, and then no blank. Many paths have the same text:

    p(text | x) = sum over its paths of the product over t of p_t(symbol of the path at t)

A. Graves et al., "Connectionist temporal classification", ICML 2006. The search by prefixes is that of A. Hannun et
al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs", arXiv:1408.2873.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating[Any]]
Next = Callable[[tuple[int, ...]], Reals]  # of a prefix, log p (K,) of the symbol that goes on; the blank: of its end

BLANK = 0


def best_path(log_p: Reals) -> list[int]:
    """The text of the likeliest path.

    >>> best_path(np.log([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]]))
    [1, 1]
    """
    path = log_p.argmax(1)
    starts = np.append(True, path[1:] != path[:-1])
    found: list[int] = path[starts & (path != BLANK)].tolist()
    return found


def search(log_p: Reals, width: int, goes_on: Next | None = None, weight: float = 0.0) -> list[int]:
    """The likeliest text, as far as `width` prefixes side by side tell: sums over the paths of each are kept.

    Args:
        log_p: (T, K).
        width: of the beam.
        goes_on: of a language model; log p(text | x) + weight * log p(text) is then what is to be highest.
        weight: that.

    >>> log_p = np.log([[0.6, 0.4], [0.6, 0.4]])       # the likeliest path is two blanks, 0.36; "1" has 0.64
    >>> best_path(log_p), search(log_p, 4)
    ([], [1])
    """
    beam = _Beam([()], np.zeros(1), np.full(1, -np.inf), np.zeros(1))
    for row in log_p.astype(np.float64):
        beam = _step(beam, row, width, goes_on, weight)
    ends = np.array([goes_on(prefix)[BLANK] if goes_on else 0.0 for prefix in beam.prefixes])
    best = np.argmax(np.logaddexp(beam.blank, beam.symbol) + beam.prior + weight * ends)
    return list(beam.prefixes[int(best)])


class _Beam(NamedTuple):
    """Prefixes side by side.

    prefixes: texts so far.
    blank: log p of all paths of each that end in a blank.
    symbol: of those that end in its last symbol.
    prior: what the language model adds.
    """

    prefixes: list[tuple[int, ...]]
    blank: Reals
    symbol: Reals
    prior: Reals


def _step(beam: _Beam, row: Reals, width: int, goes_on: Next | None, weight: float) -> _Beam:
    """One step further, with log p (K,) of its symbols."""
    prefixes, total = beam.prefixes, np.logaddexp(beam.blank, beam.symbol)
    last = np.array([prefix[-1] if prefix else BLANK for prefix in prefixes])
    more, again = total[:, None] + row, np.flatnonzero(last)
    more[again, last[again]] = beam.blank[again] + row[last[again]]  # without a blank before it, it is the same one
    more[:, BLANK] = -np.inf
    blank, symbol = total + row[BLANK], np.where(last > 0, beam.symbol + row[last], -np.inf)
    place = {prefix: i for i, prefix in enumerate(prefixes)}
    for i, prefix in enumerate(prefixes):
        parent = place.get(prefix[:-1]) if prefix else None
        if parent is not None:  # both are followed: what the parent adds goes to the prefix that is there
            symbol[i] = np.logaddexp(symbol[i], more[parent, last[i]])
            more[parent, last[i]] = -np.inf
    says = np.stack([goes_on(prefix) for prefix in prefixes]) if goes_on else np.zeros_like(more)
    prior = np.append(beam.prior, beam.prior[:, None] + weight * says)
    blank, symbol = np.append(blank, np.full(more.size, -np.inf)), np.append(symbol, more)
    value = np.logaddexp(blank, symbol) + prior
    kept = np.argsort(-value, kind="stable")[:width]
    kept = kept[np.isfinite(value[kept])]
    W, K = more.shape
    found = [prefixes[k] if k < W else (*prefixes[(k - W) // K], (k - W) % K) for k in kept.tolist()]
    return _Beam(found, blank[kept], symbol[kept], prior[kept])
