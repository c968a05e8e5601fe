"""New text from a trained model, a token at a time."""

from collections.abc import Iterator
from typing import TextIO

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from elman.data import tokenizers
from elman.decoding.sampling import choose, generator_of
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.text.model import LanguageModel


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
    generator = generator_of(seed)
    state, given = None, prompt
    for _ in range(length):
        with torch.inference_mode():
            logits, state = model(torch.tensor(given).unsqueeze(1), state)
            last = logits[-1, 0]
            if never is not None:
                last[never] = -torch.inf
            token = choose(last, temperature, top_k, top_p, generator)
        given = [token]
        yield token


def write(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int | None,
    to: TextIO,
) -> str:
    """Write the prompt and what follows it as it is drawn, and give all of it.

    Raises:
        BadInput: for a prompt of which nothing is known.
    """
    known, unknown = tokenizers.split_known(tokenizer, prompt)
    ids = tokenizers.encode(tokenizer, known).tolist()
    if prompt.strip() and not ids:
        raise BadInput(f"--prompt: expected text like that of the training, got only what it never saw: {prompt!r}")
    if unknown and prompt.strip():
        never = ", ".join(map(repr, unknown))
        note(f"elman: --prompt: left out what the training never saw: {never}")
    if not ids:  # nothing to go on from: begin with any token
        ids = [1]
    decoder = DecodeStream()
    found = [prompt.lstrip("\n") if prompt.strip() else ""]
    to.write(found[0])
    unsaid = tokenizer.token_to_id(tokenizers.UNKNOWN)
    for token in generate(model, ids, length, temperature, top_k, top_p, seed, never=unsaid):
        piece = decoder.step(tokenizer, token)
        if piece:
            found.append(piece)
            to.write(piece)
            to.flush()
    to.write("\n")
    return "".join(found)
