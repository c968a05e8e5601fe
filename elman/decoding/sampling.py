"""Sampling of tokens from logits."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from elman.errors import Failure


class Sampling(NamedTuple):
    """How to draw a token; the values are those of `choose`."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


def choose(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> int:
    """Draw a token.

    Args:
        logits: logits (V,).
        temperature: divisor of the logits. Values below 1 make unlikely tokens rarer; 0 always takes the most probable.
        top_k: sample from this many of the most probable tokens; 0 means all.
        top_p: sample from the most probable tokens whose probabilities reach this sum (nucleus sampling,
            arXiv:1904.09751).
        generator: random number generator.

    Returns:
        The index of the token.

    >>> choose(torch.tensor([0.0, 3.0, 1.0]), temperature=0)
    1
    """
    return int(choose_each(logits.unsqueeze(0), temperature, top_k, top_p, generator))


def choose_each(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one token for each row of logits.

    Args:
        logits: logits (N, V).
        temperature: as in `choose`.
        top_k: as in `choose`.
        top_p: as in `choose`.
        generator: random number generator.

    Returns:
        The indices of the tokens, (N,), on the CPU, where they are drawn: a seed gives the same numbers for logits on
        every device, and not every device has float64.

    Raises:
        Failure: for logits that are not numbers.
    """

    def draw(noise: Tensor) -> None:
        if temperature:
            noise.exponential_(generator=generator)

    tokens = _choose(logits, [Sampling(temperature, top_k, top_p)], draw)
    if (tokens < 0).any():
        raise Failure("expected numbers from the model, got nan")
    return tokens


def choose_rows(logits: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token for each row of logits, as `choose` draws it from that row alone.

    Args:
        logits: logits (N, V).
        samplings: of each row.
        generators: of each row.

    Returns:
        The indices of the tokens, (N,), on the CPU; -1 for a row with logits that are not numbers.
    """

    def draw(noise: Tensor) -> None:
        for row, sampling, generator in zip(noise.unbind(), samplings, generators, strict=True):
            if sampling.temperature:
                row.exponential_(generator=generator)

    return _choose(logits, samplings, draw)


def _choose(logits: Tensor, samplings: Sequence[Sampling], draw: Callable[[Tensor], None]) -> Tensor:
    """Draw one token for each row of logits; `draw` fills a tensor (N, V) with exponential random numbers.

    `samplings` has one entry for each row, or one for all.
    """
    logits = logits.cpu()
    V = logits.shape[1]
    options = [(temperature, min(top_k, V), top_p) for temperature, top_k, top_p in samplings]
    temperature, top_k, top_p = torch.tensor(options, dtype=torch.float64).split(1, 1)  # (N, 1) each
    is_greedy = temperature == 0
    below = logits.double() - logits.max(1, keepdim=True).values  # never infinite, however low the temperature
    sorted_logits, tokens = (below / temperature.masked_fill(is_greedy, 1)).sort(descending=True, stable=True)
    probabilities = sorted_logits.softmax(1)
    preceding = probabilities.cumsum(1) - probabilities
    is_candidate = (preceding < top_p) & ((top_k == 0) | (torch.arange(V) < top_k))
    is_candidate[:, 0] = True
    # The largest of w / e, with e from an exponential distribution, is a draw with the weights w.
    noise = torch.ones_like(probabilities)
    draw(noise)
    places = (probabilities * is_candidate / noise).argmax(1, keepdim=True)
    drawn: Tensor = tokens.gather(1, places.masked_fill_(is_greedy, 0))
    return drawn.masked_fill_(probabilities[:, :1].isnan(), -1).squeeze(1)


def generator_of(seed: int | None) -> torch.Generator:
    """Return a random number generator of the CPU with this seed; None means a random seed."""
    generator = torch.Generator("cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
