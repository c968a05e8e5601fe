"""A network that gives every word a label."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from elman.data.words import UNKNOWN
from elman.tasks.recurrent_layers import stack, title

NO_LABEL = -1  # behind the end of a sentence; of a label that was not there to be learnt


class Sentences(NamedTuple):
    """A batch.

    Args:
        words: their numbers, (T, B).
        lengths: how many are real, (B,).
        spelling: which spelling each has, (T, B).
        characters: of each spelling, (C, N).
        spelled: how many are real, (N,).
        labels: (T, B).
    """

    words: Tensor
    lengths: Tensor
    spelling: Tensor
    characters: Tensor
    spelled: Tensor
    labels: Tensor


class Tagger(nn.Module):
    """Words, and a recurrent layer over the characters of each; recurrent layers over both, and a linear output.

    All are read from both ends.

    Args:
        vocabulary: V, how many words are known; number 0 is all others.
        alphabet: how many characters are known; number 0 is all others.
        labels: K, how many there are.
        cell: a name in `elman.cells.REGISTRY`.
        embed: width of the embedding of words.
        characters: width of the embedding of characters, and of each direction over these.
        hidden: H, of every recurrent layer over words, and direction.
        layers: how many of them.
        dropout: probability, in training, on words and what their characters give, with one mask for all words of a
            sentence, and on what each recurrent layer hands up.
        word_dropout: probability that a word, but not its characters, is hidden, in training.
        bptt: words that the gradient goes back; 0: all the way.
    """

    def __init__(
        self,
        vocabulary: int,
        alphabet: int,
        labels: int,
        cell: str = "gru",
        embed: int = 128,
        characters: int = 64,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        self.words, self.characters = nn.Embedding(vocabulary + 1, embed), nn.Embedding(alphabet + 1, characters)
        for table in (self.words, self.characters):
            nn.init.normal_(table.weight, std=0.1)
        self.speller = stack(characters, characters, 1, cell, dropout, bidirectional=True)
        width = embed + self.speller.output_size
        self.recurrent = stack(width, hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.output = nn.Linear(self.recurrent.output_size, labels)
        self.dropout, self.word_dropout = dropout, word_dropout
        self.title = title(cell, layers, hidden, bidirectional=True)

    def forward(self, batch: Sentences) -> Tensor:
        """Logits of every label for every word, (T, B, K)."""
        words = batch.words
        if self.training:
            words = words.masked_fill(torch.rand(words.shape) < self.word_dropout, UNKNOWN)
        _, last = self.speller(self.characters(batch.characters), lengths=batch.spelled)
        spelt = (last[0] if isinstance(last, tuple) else last).transpose(0, 1).flatten(1)
        x = torch.cat((self.words(words), spelt[batch.spelling]), 2)
        x = x * dropout(x.new_ones(x.shape[1:]), self.dropout, self.training)
        h, _ = self.recurrent(x, lengths=batch.lengths)
        logits: Tensor = self.output(dropout(h, self.dropout, self.training))
        return logits

    def loss(self, batch: Sentences, state: Any = None) -> tuple[Tensor, int, Any]:
        """Cross-entropy in nats summed over a batch, of how many words, and no state."""
        logits, labels = self(batch).flatten(0, 1), batch.labels.flatten()
        nats = cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
        return nats, int((labels != NO_LABEL).sum()), None
