"""A recurrent language model."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from elman.bptt import Chunk
from elman.data.streams import IGNORED
from elman.tasks.recurrent_layers import stack, title


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and a linear output over the vocabulary.

    Args:
        vocabulary: V, number of tokens.
        cell: a name in `elman.cells.REGISTRY`.
        embed: size of the embeddings.
        hidden: H, hidden size.
        layers: number of recurrent layers.
        dropout: dropout probability, between recurrent layers and before the output.

    >>> import torch
    >>> logits, state = LanguageModel(10, "gru", 4, 8)(torch.tensor([[1, 2], [3, 4], [5, 6]]))
    >>> logits.shape                                   # T=3 steps, B=2 streams, V=10
    torch.Size([3, 2, 10])
    """

    def __init__(
        self,
        vocabulary: int,
        cell: str = "lstm",
        embed: int = 64,
        hidden: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embed)
        self.recurrent = stack(embed, hidden, layers, cell, dropout)
        self.output = nn.Linear(self.recurrent.output_size, vocabulary)
        self.dropout = nn.Dropout(dropout)
        self.title = title(cell, layers, hidden)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Map token ids (T, B) to the logits of the token after each, (T, B, V), and return the state."""
        h, state = self.hidden(tokens, state)
        return self.output(h), state

    def hidden(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Map token ids (T, B) to the input of the output layer (T, B, H), and return the state."""
        h, state = self.recurrent(self.embedding(tokens), state)
        return self.dropout(h), state

    def loss(self, chunk: Chunk, state: Any) -> tuple[Tensor, int, Any]:
        """Return the cross-entropy in nats summed over a chunk, the number of targets, and the state."""
        nats, state = self.nats(chunk, state, "sum")
        return nats, int(chunk.lengths.sum()), state

    def nats(self, chunk: Chunk, state: Any, reduction: str = "none") -> tuple[Tensor, Any]:
        """Return the cross-entropy of each target in nats, (T, B), 0 where there is none, or its sum; and the state."""
        inputs, targets = chunk.values
        logits, state = self(inputs, chunk.carry(state))
        nats = cross_entropy(logits.flatten(0, 1), targets.flatten().long(), ignore_index=IGNORED, reduction=reduction)
        return nats.view(targets.shape) if reduction == "none" else nats, state
