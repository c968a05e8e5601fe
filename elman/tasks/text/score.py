"""How well a text was predicted, in units that can be compared."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer

from elman.bptt import Stream
from elman.data import tokenizers
from elman.data.streams import streams
from elman.tasks.text.model import LanguageModel

BLOCK = 1 << 20  # tokens that are looked at at once


class ScoredText(NamedTuple):
    """A text as it is scored: every token but the first, which nothing precedes."""

    ids: NDArray[np.int32]
    characters: int
    unknown: int  # tokens that stand for something outside the vocabulary
    unknown_bytes: int  # what those are in UTF-8

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str | Iterable[str]) -> "ScoredText":
        """Tokenize a text, whole or in pieces."""
        characters = size = 0

        def counted() -> Iterator[str]:
            nonlocal characters, size
            for piece in [text] if isinstance(text, str) else text:
                characters, size = characters + len(piece), size + len(piece.encode())
                yield piece

        ids = tokenizers.encode(tokenizer, counted())
        lengths, known, unknown = tokenizers.token_bytes(tokenizer), 0, 0
        for begin in range(0, len(ids), BLOCK):
            found = lengths[ids[begin : begin + BLOCK]]
            known, unknown = known + int(found.sum()), unknown + int((found == 0).sum())
        first = ids[:1].tolist()
        unknown -= sum(int(lengths[i]) == 0 for i in first)
        return cls(ids, characters - len(tokenizer.decode(first)), unknown, size - known)


class Score(NamedTuple):
    """Cross-entropy of a text under a model, in three units."""

    nats_per_token: float
    bits_per_character: float
    perplexity: float

    @classmethod
    def of(cls, nats: float, text: ScoredText) -> "Score":
        """From the nats summed over all tokens of a text but the first.

        What an unknown token stands for is not in those nats. So that bits per character mean the same for every
        vocabulary, it is then spelled out at 8 bits for each of its bytes and 8 to end it.
        """
        per_token = nats / max(len(text.ids) - 1, 1)
        bits = nats / math.log(2) + 8 * (text.unknown_bytes + text.unknown)
        return cls(per_token, bits / max(text.characters, 1), math.exp(min(per_token, 700)))


def scores(text: ScoredText, nats: dict[str, float], console: Console) -> dict[str, dict[str, float]]:
    """The scores of all who predicted a text, by name, from the nats of each; says if some of it was unknown."""
    rows = {name: Score.of(total, text)._asdict() for name, total in nats.items()}
    if text.unknown:
        share = text.unknown / (len(text.ids) - 1)
        console.print(f"{share:.2%} of the tokens are unknown to this run; bits per character count them spelled out.")
    return rows


def nats(model: LanguageModel, ids: NDArray[np.int32], console: Console | None = None) -> float:
    """Cross-entropy summed over ids[1:], each given what precedes it in its stream; a console shows how far it is."""
    chunks = evaluation_streams(ids)
    total, state = 0.0, None
    training = model.training
    model.eval()
    with torch.no_grad():
        for chunk in track(chunks, "scoring", console=console, transient=True) if console else chunks:
            chunk_nats, _, state = model.loss(chunk, state)
            total += chunk_nats.item()
    model.train(training)
    return total


def evaluation_streams(ids: NDArray[np.int32]) -> Stream:
    """The streams that a text is scored in: as many as leave each at least 1,000 tokens, so that what the empty
    state at the beginning of each costs is lost in the average.
    """
    return streams(ids, batch=min(max(len(ids) // 1000, 1), 64), bptt=128, every_token=True)
