"""Scores of language models, in units that compare across vocabularies."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer

from elman.bptt import Stream
from elman.data import tokenizers
from elman.data.streams import streams
from elman.report.shown import Scores
from elman.tasks.bootstrap import margins
from elman.tasks.text.model import LanguageModel
from elman.training.devices import device_of

BLOCK_SIZE = 1 << 20  # tokens to process at once
BLOCK_TOKENS = 1024  # of the bootstrap: errors of tokens nearby are alike
CHUNK = 128  # steps


class ScoredText(NamedTuple):
    """A text to score: every token but the first, which has no context.

    ids: the tokens.
    characters: the number of characters that are scored.
    unknown: tokens that stand for text outside the vocabulary.
    unknown_bytes: the size of that text in UTF-8.
    """

    ids: NDArray[np.int32]
    characters: int
    unknown: int
    unknown_bytes: int

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
        for begin in range(0, len(ids), BLOCK_SIZE):
            sizes = lengths[ids[begin : begin + BLOCK_SIZE]]
            known, unknown = known + int(sizes.sum()), unknown + int((sizes == 0).sum())
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
        """Compute the scores from the nats summed over all tokens of a text but the first.

        Unknown tokens hide the text they stand for. To compare bits per character across vocabularies, this text is
        counted at 8 bits for each of its bytes, and 8 bits to end it.
        """
        per_token = nats / max(len(text.ids) - 1, 1)
        bits = nats / math.log(2) + 8 * (text.unknown_bytes + text.unknown)
        return cls(per_token, bits / max(text.characters, 1), math.exp(min(per_token, 700)))


class Blocks(NamedTuple):
    """The cross-entropy of a text by blocks of it: units of the bootstrap.

    nats: the nats of each block, summed over its tokens, (N,).
    tokens: the number of tokens of each block, (N,).
    """

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @classmethod
    def of(cls, nats: NDArray[Any], tokens: NDArray[np.int64], size: int) -> "Blocks":
        """Sum over each `size` consecutive entries of an axis, (M, ...), and flatten."""
        at = np.arange(0, len(nats), size)
        return cls(np.add.reduceat(nats, at).ravel(), np.add.reduceat(tokens, at).ravel())


def scores(text: ScoredText, nats: Mapping[str, Blocks], console: Console) -> Scores:
    """Return the scores of each model; print the share of unknown tokens, if there are any."""
    if text.unknown:
        share = text.unknown / (len(text.ids) - 1)
        console.print(
            f"{share:.2%} of the tokens are unknown to this run; bits per character count each of their characters."
        )
    result = Scores(counted=f"{max(len(text.ids) - 1, 0):,} tokens")
    for title, blocks in nats.items():

        def score(indices: Sequence[int] | slice, blocks: Blocks = blocks) -> dict[str, float]:
            mean = blocks.nats[indices].sum() / max(blocks.tokens[indices].sum(), 1)
            return Score.of(float(mean) * (len(text.ids) - 1), text)._asdict()

        result[title] = score(slice(None))
        result.margins[title] = margins(score, range(len(blocks.nats)))
    return result


def nats(model: LanguageModel, ids: NDArray[np.int32], console: Console | None = None) -> Blocks:
    """Return the cross-entropy of ids[1:], each given its context in its stream; a console shows progress."""
    chunks = evaluation_streams(ids)
    state, device = None, device_of(model)
    sums, counts = [], []
    training = model.training
    model.eval()
    with torch.no_grad():
        for chunk in track(chunks, "scoring", console=console, transient=True) if console else chunks:
            chunk_nats, state = model.nats(chunk.to(device), state)
            sums.append(chunk_nats.double().sum(0).cpu().numpy())
            counts.append(chunk.lengths.cpu().numpy())
    model.train(training)
    return Blocks.of(np.stack(sums), np.stack(counts), BLOCK_TOKENS // CHUNK)


def evaluation_streams(ids: NDArray[np.int32]) -> Stream:
    """Return the streams to score a text in.

    There are up to 64, with at least 1,000 tokens each, so that the empty state at the beginning of each hardly
    matters.
    """
    return streams(ids, batch=min(max(len(ids) // 1000, 1), 64), bptt=CHUNK, every_token=True)
