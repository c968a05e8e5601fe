"""New text from a trained model, a token at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from elman.tasks.text.model import LanguageModel


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
    if temperature == 0:
        return int(logits.argmax())
    ordered, tokens = (logits.double() / temperature).sort(descending=True, stable=True)
    probabilities = ordered.softmax(0)
    before = probabilities.cumsum(0) - probabilities
    kept = before < top_p
    kept[0] = True
    if top_k:
        kept[top_k:] = False
    return int(tokens[torch.multinomial(probabilities * kept, 1, generator=generator)])


def generate(
    model: LanguageModel,
    prompt: list[int],
    length: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int | None = None,
    never: int | None = None,
) -> Iterator[int]:
    """Go on from a prompt.

    Args:
        model: in eval mode.
        prompt: at least one token id.
        length: how many tokens to yield.
        temperature: as for `choose`, and so `top_k` and `top_p`.
        top_k: see there.
        top_p: see there.
        seed: the same seed gives the same text; None for another each time.
        never: a token that is not to be drawn.
    """
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    state, tokens = None, prompt
    for _ in range(length):
        with torch.inference_mode():
            logits, state = model(torch.tensor(tokens).unsqueeze(1), state)
            last = logits[-1, 0]
            if never is not None:
                last[never] = -torch.inf
            token = choose(last, temperature, top_k, top_p, generator)
        tokens = [token]
        yield token
