"""A bidirectional recurrent network that classifies texts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, dropout, embedding

from elman.data.words import UNKNOWN
from elman.tasks.classify.naive_bayes import NaiveBayes
from elman.tasks.recurrent_layers import stack, title


class Texts(NamedTuple):
    """A batch of texts.

    Args:
        words: word numbers, (T, B).
        lengths: words of each text, (B,).
        spelling: the index of each word's spelling, (T, B).
        grams: character n-gram numbers of all spellings, concatenated, (M,).
        begins: where the n-grams of each spelling begin, (N,).
        pairs: numbers of the pairs of each word and the one before it, (T, B), for the naive Bayes part.
        labels: label numbers, (B,); with several labels for each text, which it has, 0 or 1, (B, K).
    """

    words: Tensor
    lengths: Tensor
    spelling: Tensor
    grams: Tensor
    begins: Tensor
    pairs: Tensor
    labels: Tensor


class TextClassifier(nn.Module):
    """Bidirectional recurrent layers over words, and a linear output over the mean and maximum over time.

    A word is the sum of its embedding and the mean of the embeddings of its character n-grams, so unknown words differ
    from each other. Bojanowski et al., arXiv:1607.04606.

    With the naive Bayes part, the logits are the mean of those of the network and of the evidence of words and pairs.
    In training each has a loss of its own: where naive Bayes alone is right, the network would learn nothing from the
    loss of both together.

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
        pairs: known word pairs of the naive Bayes part; 0: the model has no such part.
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
        pairs: int = 0,
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
        self.bayes = NaiveBayes(vocabulary, pairs, labels, multi_label) if pairs else None
        self.title = title(cell, layers, hidden, bidirectional=True) + (" and naive Bayes" if pairs else "")

    def forward(self, batch: Texts) -> Tensor:
        """Return the logits of every label for every text, (B, K)."""
        return self.with_evidence(self.of_network(batch), batch.words, batch.pairs, batch.lengths)

    def with_evidence(self, logits: Tensor, words: Tensor, pairs: Tensor | None, lengths: Tensor) -> Tensor:
        """Return the mean of logits (B, K) and the evidence of words and pairs (T, B), if the model has such a part."""
        if self.bayes is None or pairs is None:
            return logits
        mean: Tensor = (logits + self.bayes(words, pairs, lengths)) / 2
        return mean

    def of_network(self, batch: Texts) -> Tensor:
        """Return the logits of the network alone, (B, K)."""
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
        labels, count = batch.labels, len(batch.labels)
        if not self.training:
            return self._nats(self(batch), labels), count, None
        nats = self._nats(self.of_network(batch), labels, self.smoothing)
        if self.bayes is not None:
            evidence = self.bayes(batch.words, batch.pairs, batch.lengths, labels)
            nats = (nats + self._nats(evidence, labels)) / 2
        return nats, count, None

    def _nats(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        weights = logits.new_tensor(self.class_weights) if self.class_weights and self.training else None
        if self.multi_label:
            return _binary_cross_entropy(logits, labels, weights, smoothing)
        return cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=smoothing)


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
