"""A bidirectional recurrent network that classifies images."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from elman.tasks.recurrent_layers import stack, title


class ImageClassifier(nn.Module):
    """Bidirectional recurrent layers over the columns of an image, and a linear output over the mean of their outputs.

    Args:
        height: D, pixels of a column.
        labels: K, number of labels.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size of each direction.
        layers: number of recurrent layers.
        dropout: dropout probability, between recurrent layers and before the output.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.

    >>> import torch
    >>> logits = ImageClassifier(8, 10, "gru", 16)(torch.rand(8, 2, 8))
    >>> logits.shape                                   # of B=2 images, K=10 labels
    torch.Size([2, 10])
    """

    def __init__(
        self,
        height: int,
        labels: int,
        cell: str = "gru",
        hidden: int = 96,
        layers: int = 1,
        dropout: float = 0.0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        self.recurrent = stack(height, hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.recurrent.output_size, labels)
        self.title = title(cell, layers, hidden, bidirectional=True)

    def forward(self, images: Tensor) -> Tensor:
        """Map images as columns (T, B, D) to logits (B, K)."""
        h, _ = self.recurrent(images)
        logits: Tensor = self.output(self.dropout(h.mean(0)))
        return logits

    def loss(self, batch: tuple[Tensor, Tensor], state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the cross-entropy in nats summed over a batch, the batch size, and no state."""
        images, labels = batch
        return cross_entropy(self(images), labels, reduction="sum"), len(labels), None
