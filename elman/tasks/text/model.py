"""The recurrent language model."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from elman.bptt import Chunk
from elman.data.streams import IGNORED
from elman.tasks.recurrent_layers import stack, title


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and a linear output over the vocabulary.

    Args:
        vocabulary: V, how many tokens there are.
        cell: a name in `elman.cells.REGISTRY`.
        embed: width of the embedding.
        hidden: H, of every recurrent layer.
        layers: how many of them.
        dropout: probability, on what each recurrent layer hands up, in training.

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
        """Token ids (T, B) and the state so far, to the logits of what follows each (T, B, V) and the state after."""
        h, state = self.recurrent(self.embedding(tokens), state)
        return self.output(self.dropout(h)), state

    def loss(self, chunk: Chunk, state: Any) -> tuple[Tensor, int, Any]:
        """Cross-entropy in nats summed over a chunk, over how many targets, and the state after it."""
        inputs, targets = chunk.values
        logits, state = self(inputs, chunk.carry(state))
        nats = cross_entropy(logits.flatten(0, 1), targets.flatten().long(), ignore_index=IGNORED, reduction="sum")
        return nats, int(chunk.lengths.sum()), state
