"""Sampling of text from a language model."""

from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from typing_extensions import override

from elman.data import tokenizers
from elman.decoding.sampling import choose, generator_of
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.task import Generation, check_steps
from elman.tasks.text.model import LanguageModel
from elman.training.devices import device_of

BLOCK = 1024  # tokens of a prompt that are fed to the model at once


class TokenSampler:
    """Samples tokens, and keeps the state of the model and of the random number generator between calls.

    Args:
        model: in evaluation mode.
        seed: the same seed gives the same text; None: a different one each time.
        never: a token that is never sampled.
    """

    def __init__(self, model: LanguageModel, seed: int | None = None, never: int | None = None) -> None:
        self._model, self._never = model, never
        self._generator, self._device = generator_of(seed), device_of(model)
        self._state: Any = None
        self.pending = list[int]()  # tokens that the model has not read yet

    def sample(self, length: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Iterator[int]:
        """Yield sampled tokens that continue the pending ones, of which there must be one at least.

        Args:
            length: number of tokens.
            temperature: as for `elman.decoding.sampling.choose`.
            top_k: as for `choose`.
            top_p: as for `choose`.
        """
        for _ in range(length):
            with torch.inference_mode():
                last = self._read()
                if self._never is not None:
                    last[self._never] = -torch.inf
                token = choose(last, temperature, top_k, top_p, self._generator)
            self.pending = [token]
            yield token

    def _read(self) -> torch.Tensor:
        """Feed the pending tokens to the model, and return the logits of the next token."""
        while len(self.pending) > BLOCK:
            _, self._state = self._step(self.pending[:BLOCK])
            self.pending = self.pending[BLOCK:]
        logits, self._state = self._step(self.pending)
        return logits[-1, 0]

    def _step(self, tokens: Sequence[int]) -> tuple[torch.Tensor, Any]:
        logits, state = self._model(torch.tensor(tokens, device=self._device).unsqueeze(1), self._state)
        return logits, state


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
    sampler = TokenSampler(model, seed, never)
    sampler.pending = prompt
    return sampler.sample(length, temperature, top_k, top_p)


class TextGeneration(Generation):
    """A text that is written token by token.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        seed: as for `TokenSampler`.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, seed: int | None) -> None:
        self._tokenizer, self._decoder = tokenizer, DecodeStream()
        self._sampler = TokenSampler(model, seed, tokenizer.token_to_id(tokenizers.UNKNOWN))

    @override
    def read(self, prompt: str, max_steps: int | None = None) -> None:
        known, unknown = tokenizers.split_known(self._tokenizer, prompt)
        ids = tokenizers.encode(self._tokenizer, known).tolist()
        if prompt.strip() and not ids:
            raise BadInput(f"--prompt: expected characters or words of the training text, got none: {prompt!r:.200}")
        check_steps("--prompt", len(ids), max_steps)
        if unknown and prompt.strip():
            names = ", ".join(map(repr, unknown))
            note(f"elman: --prompt: skipped characters or words that are not in the training part: {names}")
        self._sampler.pending += ids
        self._decoder = DecodeStream()  # what follows a prompt does not begin within a character

    @override
    def steps(self, length: int, **sampling: Any) -> Iterator[dict[str, Any]]:
        if not self._sampler.pending:  # the model needs a token to begin with: a line break, if there is one
            self.read("\n")
            self._sampler.pending = self._sampler.pending or [1]
        for token in self._sampler.sample(length, **sampling):
            yield {"text": self._decoder.step(self._tokenizer, token) or ""}

    @override
    def output(self, steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"text": "".join(step["text"] for step in steps)}


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
    generation = TextGeneration(model, tokenizer, seed)
    generation.read(prompt)
    pieces = [prompt.lstrip("\n") if prompt.strip() else ""]
    to.write(pieces[0])
    for step in generation.steps(length, temperature=temperature, top_k=top_k, top_p=top_p):
        if piece := step["text"]:
            pieces.append(piece)
            to.write(piece)
            to.flush()
    to.write("\n")
    return "".join(pieces)
