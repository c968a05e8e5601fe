"""One of several, drawn by their logits."""

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
        logits: (V).
        temperature: divides the logits; below 1 bolder choices become rarer, 0 always takes the likeliest.
        top_k: keep only this many of the likeliest; 0 for all.
        top_p: keep only the likeliest whose probabilities reach this sum (nucleus sampling, arXiv:1904.09751).
        generator: of the random numbers.

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
    """Draw one of each row, (N,), of logits (N, V); the rest as for `choose`."""
    if temperature == 0:
        return logits.argmax(1)
    ordered, numbers = (logits.double() / temperature).sort(descending=True, stable=True)
    probabilities = ordered.softmax(1)
    before = probabilities.cumsum(1) - probabilities
    kept = before < top_p
    kept[:, 0] = True
    if top_k:
        kept[:, top_k:] = False
    return numbers.gather(1, torch.multinomial(probabilities * kept, 1, generator=generator)).squeeze(1)


def generator_of(seed: int | None) -> torch.Generator:
    """Of random numbers; None: of others each time."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
