"""A network that reads a text word by word."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from elman.data.words import UNKNOWN
from elman.tasks.recurrent_layers import stack, title


class Texts(NamedTuple):
    """A batch.

    Args:
        words: their numbers, (T, B).
        lengths: how many are real, (B,).
        spelling: which spelling each has, (T, B).
        grams: the pieces of all spellings, one behind the other, (M,).
        begins: where those of each begin, (N,).
        labels: (B,).
    """

    words: Tensor
    lengths: Tensor
    spelling: Tensor
    grams: Tensor
    begins: Tensor
    labels: Tensor


class TextClassifier(nn.Module):
    """Recurrent layers that read words from both ends, and a linear output over the means and maxima of their outputs.

    A word is the sum of an embedding of its own and the mean of those of its pieces: so words that are not known are
    not all alike. Bojanowski et al., arXiv:1607.04606.

    Args:
        vocabulary: V, how many words are known; number 0 is all others.
        pieces: how many embeddings the pieces of words share.
        labels: K, how many there are.
        cell: a name in `elman.cells.REGISTRY`.
        embed: width of the embedding.
        hidden: H, of every recurrent layer and direction.
        layers: how many of them.
        dropout: probability, in training, on embeddings, with one mask for all words of a text, and on what each
            recurrent layer hands up.
        word_dropout: probability that a word, but not its pieces, is hidden, in training.
        smoothing: the share of what is right that all labels share in, in training.
        bptt: steps that the gradient goes back; 0: all the way.
    """

    def __init__(
        self,
        vocabulary: int,
        pieces: int,
        labels: int,
        cell: str = "gru",
        embed: int = 128,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        smoothing: float = 0.0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        self.words, self.pieces = nn.Embedding(vocabulary + 1, embed), nn.EmbeddingBag(pieces, embed)
        for table in (self.words, self.pieces):
            nn.init.normal_(table.weight, std=0.1)
        self.recurrent = stack(embed, hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.dropout, self.word_dropout, self.smoothing = dropout, word_dropout, smoothing
        self.output = nn.Linear(2 * self.recurrent.output_size, labels)
        self.title = title(cell, layers, hidden, bidirectional=True)

    def forward(self, batch: Texts) -> Tensor:
        """Logits of every label for every text, (B, K)."""
        words, lengths = batch.words, batch.lengths
        if self.training:
            words = words.masked_fill(torch.rand(words.shape) < self.word_dropout, UNKNOWN)
        x = self.words(words) + self.pieces(batch.grams, batch.begins)[batch.spelling]
        x = x * dropout(x.new_ones(x.shape[1:]), self.dropout, self.training)
        h, _ = self.recurrent(x, lengths=lengths)
        behind = (torch.arange(len(h))[:, None] >= lengths)[..., None]
        pooled = torch.cat((h.sum(0) / lengths[:, None], h.masked_fill(behind, -torch.inf).amax(0)), 1)
        logits: Tensor = self.output(dropout(pooled, self.dropout, self.training))
        return logits

    def loss(self, batch: Texts, state: Any = None) -> tuple[Tensor, int, Any]:
        """Cross-entropy in nats summed over a batch, of how many texts, and no state."""
        smoothing = self.smoothing if self.training else 0.0
        nats = cross_entropy(self(batch), batch.labels, reduction="sum", label_smoothing=smoothing)
        return nats, len(batch.labels), None
