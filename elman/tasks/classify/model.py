"""A network that reads a text word by word."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from elman import cells
from elman.bptt import Full, Truncated
from elman.layers import Stack
from elman.tasks._words import UNKNOWN


class TextClassifier(nn.Module):
    """Recurrent layers that read words from both ends, and a linear output over the means and maxima of their outputs.

    Args:
        vocabulary: V, how many words are known; number 0 is all others.
        labels: K, how many there are.
        cell: a name in `elman.cells.SHELF`.
        embed: width of the embedding.
        hidden: H, of every recurrent layer and direction.
        layers: how many of them.
        dropout: probability, in training, on embeddings, with one mask for all words of a text, and on what each
            recurrent layer hands up.
        word_dropout: probability that a word is hidden, in training: so the unknown one is learnt too.
        bptt: steps that the gradient goes back; 0: all the way.

    >>> words = torch.tensor([[1, 4], [2, 5], [3, 0]])
    >>> logits = TextClassifier(9, 2, "gru", 4, 8)(words, torch.tensor([3, 2]))
    >>> logits.shape                                   # of B=2 texts, K=2 labels
    torch.Size([2, 2])
    """

    def __init__(
        self,
        vocabulary: int,
        labels: int,
        cell: str = "gru",
        embed: int = 128,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary + 1, embed)
        nn.init.normal_(self.embedding.weight, std=0.1)
        between = dropout if layers > 1 else 0.0
        mode = Truncated(bptt) if bptt else Full()
        kind = cells.by_name(cell)
        self.recurrent = Stack(embed, hidden, layers, dropout=between, bidirectional=True, bptt=mode, cell_type=kind)
        self.dropout, self.word_dropout = dropout, word_dropout
        self.output = nn.Linear(2 * self.recurrent.output_size, labels)
        self.title = f"{cell.upper()} {f'{layers} x ' if layers > 1 else ''}2 x {hidden}"

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Numbers of words (T, B), of which as many are real as `lengths` (B,) says, to logits (B, K)."""
        if self.training:
            words = words.masked_fill(torch.rand(words.shape) < self.word_dropout, UNKNOWN)
        x = self.embedding(words)
        x = x * dropout(x.new_ones(x.shape[1:]), self.dropout, self.training)
        h, _ = self.recurrent(x, lengths=lengths)
        behind = (torch.arange(len(h))[:, None] >= lengths)[..., None]
        pooled = torch.cat((h.sum(0) / lengths[:, None], h.masked_fill(behind, -torch.inf).amax(0)), 1)
        logits: Tensor = self.output(dropout(pooled, self.dropout, self.training))
        return logits

    def loss(self, batch: tuple[Tensor, Tensor, Tensor], state: Any = None) -> tuple[Tensor, int, Any]:
        """Cross-entropy in nats summed over a batch, of how many texts, and no state."""
        words, lengths, labels = batch
        return cross_entropy(self(words, lengths), labels, reduction="sum"), len(labels), None
