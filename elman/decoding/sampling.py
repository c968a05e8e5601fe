"""Sampling of tokens from logits."""

import torch
from torch import Tensor


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
    """
    logits = logits.cpu()
    if temperature == 0:
        return logits.argmax(1)
    below = logits.double() - logits.max(1, keepdim=True).values  # never infinite, however low the temperature
    sorted_logits, tokens = (below / temperature).sort(descending=True, stable=True)
    probabilities = sorted_logits.softmax(1)
    preceding = probabilities.cumsum(1) - probabilities
    is_candidate = preceding < top_p
    is_candidate[:, 0] = True
    if top_k:
        is_candidate[:, top_k:] = False
    return tokens.gather(1, torch.multinomial(probabilities * is_candidate, 1, generator=generator)).squeeze(1)


def generator_of(seed: int | None) -> torch.Generator:
    """Return a random number generator of the CPU with this seed; None means a random seed."""
    generator = torch.Generator("cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
