"""Sampling of text from a language model."""

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
from elman.training.devices import device_of


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
    """Yield sampled tokens that continue a prompt.

    Args:
        model: in evaluation mode.
        prompt: at least one token id.
        length: number of tokens.
        temperature: as for `elman.decoding.sampling.choose`.
        top_k: as for `choose`.
        top_p: as for `choose`.
        seed: the same seed gives the same text; None: a different one each time.
        never: a token that is never sampled.
    """
    generator = generator_of(seed)
    state, inputs, device = None, prompt, device_of(model)
    for _ in range(length):
        with torch.inference_mode():
            logits, state = model(torch.tensor(inputs, device=device).unsqueeze(1), state)
            last = logits[-1, 0]
            if never is not None:
                last[never] = -torch.inf
            token = choose(last, temperature, top_k, top_p, generator)
        inputs = [token]
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
    """Write a prompt and its continuation token by token, and return both as a text.

    Raises:
        BadInput: for a prompt without known tokens.
    """
    known, unknown = tokenizers.split_known(tokenizer, prompt)
    ids = tokenizers.encode(tokenizer, known).tolist()
    if prompt.strip() and not ids:
        raise BadInput(f"--prompt: expected characters or words of the training text, got none: {prompt!r}")
    if unknown and prompt.strip():
        names = ", ".join(map(repr, unknown))
        note(f"elman: --prompt: skipped characters or words that are not in the training part: {names}")
    if not ids:  # an empty prompt: the model needs a token to begin with
        ids = [1]
    decoder = DecodeStream()
    pieces = [prompt.lstrip("\n") if prompt.strip() else ""]
    to.write(pieces[0])
    unknown_token = tokenizer.token_to_id(tokenizers.UNKNOWN)
    for token in generate(model, ids, length, temperature, top_k, top_p, seed, never=unknown_token):
        piece = decoder.step(tokenizer, token)
        if piece:
            pieces.append(piece)
            to.write(piece)
            to.flush()
    to.write("\n")
    return "".join(pieces)
