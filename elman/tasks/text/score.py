"""Scores of language models, in units that compare across vocabularies."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer

from elman.bptt import Stream
from elman.data import tokenizers
from elman.data.streams import IGNORED, streams
from elman.report.shown import Scores
from elman.tasks.bootstrap import margins
from elman.tasks.text.model import LanguageModel
from elman.training.devices import device_of

Reals = NDArray[np.float64]

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


def scores(text: ScoredText, nats: Mapping[str, Reals], console: Console) -> Scores:
    """Return the scores of each model from its cross-entropy of each token but the first, (N - 1,).

    Print the share of unknown tokens, if there are any.
    """
    if text.unknown:
        share = text.unknown / (len(text.ids) - 1)
        console.print(
            f"{share:.2%} of the tokens are unknown to this run; bits per character count each of their characters."
        )
    result = Scores(counted=f"{max(len(text.ids) - 1, 0):,} tokens")
    for title, of_tokens in nats.items():
        begins = np.arange(0, len(of_tokens), BLOCK_TOKENS)
        blocks, tokens = np.add.reduceat(of_tokens, begins), np.minimum(len(of_tokens) - begins, BLOCK_TOKENS)

        def score(
            indices: Sequence[int] | slice, blocks: Reals = blocks, tokens: NDArray[np.int64] = tokens
        ) -> dict[str, float]:
            mean = blocks[indices].sum() / max(tokens[indices].sum(), 1)
            return Score.of(float(mean) * (len(text.ids) - 1), text)._asdict()

        result[title] = score(slice(None))
        result.margins[title] = margins(score, range(len(blocks)))
    return result


def nats(model: LanguageModel, ids: NDArray[np.int32], console: Console | None = None) -> Reals:
    """Return the cross-entropy of each of ids[1:], (N - 1,), given its context in its stream.

    A console shows progress.
    """
    chunks, positions = evaluation_streams(ids), evaluation_streams(np.arange(len(ids)))
    state, device = None, device_of(model)
    result = np.zeros(len(ids) - 1)
    training = model.training
    model.eval()
    with torch.no_grad():
        for i in track(range(len(chunks)), "scoring", console=console, transient=True, disable=console is None):
            of_chunk, state = model.nats(chunks[i].to(device), state)
            targets = positions[i].values[1]
            is_target = targets != IGNORED
            result[targets[is_target].numpy() - 1] = of_chunk.cpu()[is_target]
    model.train(training)
    return result


def evaluation_streams(ids: NDArray[np.integer]) -> Stream:
    """Return the streams to score a text in.

    There are up to 64, with at least 1,000 tokens each, so that the empty state at the beginning of each hardly
    matters.
    """
    return streams(ids, batch=min(max(len(ids) // 1000, 1), 64), bptt=CHUNK, every_token=True)
