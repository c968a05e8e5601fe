"""Sampling of text from a language model."""

from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from typing_extensions import override

from elman.data import tokenizers
from elman.decoding.sampler import TokenSampler
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.sampled_generation import SampledGeneration
from elman.tasks.task import check_steps
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
    sampler = TokenSampler(model, seed, prompt, never)
    return sampler.sample(length, temperature=temperature, top_k=top_k, top_p=top_p)


class TextGeneration(SampledGeneration[int]):
    """A text that is written token by token.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        seed: the same seed gives the same text; None: a different one each time.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, seed: int | None) -> None:
        super().__init__(TokenSampler(model, seed, never=tokenizer.token_to_id(tokenizers.UNKNOWN)))
        self._tokenizer, self._decoder = tokenizer, DecodeStream()

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
        self.sampler.pending += ids
        self._decoder = DecodeStream()  # what follows a prompt does not begin within a character

    @override
    def begin(self) -> None:
        if not self.sampler.pending:  # the model needs a token to begin with: a line break, if there is one
            self.read("\n")
            self.sampler.pending = self.sampler.pending or [1]

    @override
    def to_json(self, step: int) -> dict[str, Any]:
        return {"text": self._decoder.step(self._tokenizer, step) or ""}

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
