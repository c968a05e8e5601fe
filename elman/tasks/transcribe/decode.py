"""From probabilities of symbols, step by step, to a text: connectionist temporal classification read backwards.

A path has a symbol for each step, the blank among them. Its text is what is left when of equal symbols side by side one
is kept, and then no blank. Many paths have the same text:

    p(text | x) = sum over its paths of the product over t of p_t(symbol of the path at t)

A. Graves et al., "Connectionist temporal classification", ICML 2006. The search by prefixes is that of A. Hannun et
al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs", arXiv:1408.2873.
"""

from collections.abc import Callable
from typing import Any

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
    prefixes: list[tuple[int, ...]] = [()]
    blank, symbol = np.zeros(1), np.full(1, -np.inf)  # log p of all paths of each, that end in a blank, in its last
    prior = np.zeros(1)
    for row in log_p.astype(np.float64):
        last = np.array([prefix[-1] if prefix else BLANK for prefix in prefixes])
        total = np.logaddexp(blank, symbol)
        more = total[:, None] + row
        repeats = np.flatnonzero(last)
        more[repeats, last[repeats]] = blank[repeats] + row[last[repeats]]  # without a blank it is still the same one
        more[:, BLANK] = -np.inf
        blank, symbol = total + row[BLANK], np.where(last > 0, symbol + row[last], -np.inf)
        place = {prefix: i for i, prefix in enumerate(prefixes)}
        for i, prefix in enumerate(prefixes):
            parent = place.get(prefix[:-1]) if prefix else None
            if parent is not None:  # it is in the beam already: what its parent adds goes to it
                symbol[i] = np.logaddexp(symbol[i], more[parent, prefix[-1]])
                more[parent, prefix[-1]] = -np.inf
        priors = np.zeros_like(more) if goes_on is None else np.stack([goes_on(prefix) for prefix in prefixes])
        priors = prior[:, None] + weight * priors
        value = np.append(np.logaddexp(blank, symbol) + prior, more + priors)
        kept = np.argsort(-value, kind="stable")[:width]
        kept = kept[np.isfinite(value[kept])]
        W, K = more.shape
        old, (parents, symbols) = kept < W, np.divmod(kept - W, K)
        prefixes = [
            prefixes[k] if stays else (*prefixes[parent], s)
            for k, stays, parent, s in zip(kept.tolist(), old.tolist(), parents.tolist(), symbols.tolist(), strict=True)
        ]
        at, was = np.where(old, kept, 0), np.where(old, 0, kept - W)
        blank, symbol, prior = (
            np.where(old, blank[at], -np.inf),
            np.where(old, symbol[at], more.flat[was]),
            np.where(old, prior[at], priors.flat[was]),
        )
    ends = [goes_on(prefix)[BLANK] if goes_on else 0.0 for prefix in prefixes]
    return list(prefixes[int(np.argmax(np.logaddexp(blank, symbol) + prior + weight * np.array(ends)))])
