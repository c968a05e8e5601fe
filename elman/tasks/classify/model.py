"""A bidirectional recurrent network that classifies texts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, dropout, embedding

from elman.data.words import UNKNOWN
from elman.tasks.recurrent_layers import stack, title


class Texts(NamedTuple):
    """A batch of texts.

    Args:
        words: word numbers, (T, B).
        lengths: words of each text, (B,).
        spelling: the index of each word's spelling, (T, B).
        grams: character n-gram numbers of all spellings, concatenated, (M,).
        begins: where the n-grams of each spelling begin, (N,).
        labels: label numbers, (B,); with several labels for each text, which it has, 0 or 1, (B, K).
    """

    words: Tensor
    lengths: Tensor
    spelling: Tensor
    grams: Tensor
    begins: Tensor
    labels: Tensor


class TextClassifier(nn.Module):
    """Bidirectional recurrent layers over words, and a linear output over the mean and maximum over time.

    A word is the sum of its embedding and the mean of the embeddings of its character n-grams, so unknown words differ
    from each other. Bojanowski et al., arXiv:1607.04606.

    Args:
        vocabulary: V, known words; number 0 stands for all others.
        pieces: size of the hash table of character n-grams.
        labels: K, number of labels.
        cell: a name in `elman.cells.REGISTRY`.
        embed: size of the embeddings.
        hidden: H, hidden size of each direction.
        layers: number of recurrent layers.
        dropout: dropout probability, on embeddings (with one mask for all words of a text), between recurrent layers
            and before the output.
        word_dropout: probability in training that a word is masked, but not its character n-grams.
        smoothing: label smoothing.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.
        multi_label: whether a text may have several labels; then each has a probability of its own.
        class_weights: weight of each label in the loss of training, (K,); none: all alike. Of several labels for each
            text, it is that of texts with the label; texts without it make up for the difference.
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
        multi_label: bool = False,
        class_weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.words, self.pieces = nn.Embedding(vocabulary + 1, embed), nn.EmbeddingBag(pieces, embed)
        for table in (self.words, self.pieces):
            nn.init.normal_(table.weight, std=0.1)
        self.recurrent = stack(embed, hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.dropout, self.word_dropout, self.smoothing = dropout, word_dropout, smoothing
        self.output = nn.Linear(2 * self.recurrent.output_size, labels)
        self.multi_label, self.class_weights = multi_label, tuple(class_weights)
        self.title = title(cell, layers, hidden, bidirectional=True)

    def forward(self, batch: Texts) -> Tensor:
        """Return the logits of every label for every text, (B, K)."""
        words, lengths = batch.words, batch.lengths
        if self.training:
            words = words.masked_fill(torch.rand(words.shape, device=words.device) < self.word_dropout, UNKNOWN)
        # Not by indexing, whose backward pass adds in the order of the threads.
        x = self.words(words) + embedding(batch.spelling, self.pieces(batch.grams, batch.begins))
        return self.logits(x, lengths)

    def logits(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map the vectors of words (T, B, E), and the number of words of each text (B,), to logits (B, K)."""
        x = x * dropout(x.new_ones(x.shape[1:]), self.dropout, self.training)
        h, _ = self.recurrent(x, lengths=lengths)
        is_padding = (torch.arange(h.shape[0], device=h.device)[:, None] >= lengths)[..., None]
        pooled = torch.cat((h.sum(0) / lengths[:, None], h.masked_fill(is_padding, -torch.inf).amax(0)), 1)
        logits: Tensor = self.output(dropout(pooled, self.dropout, self.training))
        return logits

    def loss(self, batch: Texts, state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the cross-entropy in nats summed over a batch, the batch size, and no state.

        With several labels for each text it is the sum of their binary cross-entropies. Smoothing and class weights are
        those of training alone.
        """
        logits, labels = self(batch), batch.labels
        smoothing, class_weights = (self.smoothing, self.class_weights) if self.training else (0.0, ())
        weights = logits.new_tensor(class_weights) if class_weights else None
        if self.multi_label:
            nats = _binary_cross_entropy(logits, labels, weights, smoothing)
        else:
            nats = cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=smoothing)
        return nats, len(labels), None


def _binary_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Return the sum of the binary cross-entropies of labels (B, K), with the weight of texts that have each, (K,).

    By "balanced", a text with a label has the weight w = N / (2 n) if n of N texts have it. Then that of a text without
    it, N / (2 (N - n)), is 1 / (2 - 1 / w).
    """
    if weights is not None:
        rest = 1 / (2 - 1 / weights).clamp(min=1e-6)
        weights = torch.where(labels > 0.5, weights, rest)
    targets = labels * (1 - smoothing) + smoothing / 2
    return binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum")
