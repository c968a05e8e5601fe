"""Convolutions and a bidirectional recurrent network that classify images."""

import math
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from elman.tasks.recurrent_layers import stack, title

KERNELS = (5, 3)  # pixels of the sides of the kernels; each convolution has twice as many filters as the one before
GROUPS = 4  # of filters that are normalized together: of each image alone, so that batches can be divided
MIN_SIDE = 12  # a convolution halves the sides of an image if both are at least this long


class ImageClassifier(nn.Module):
    """Bidirectional recurrent layers over the columns of an image, and a linear output over the mean of their outputs.

    Convolutions read each column with its neighbours before, as in B. Shi, X. Bai and C. Yao, "An End-to-End Trainable
    Neural Network for Image-Based Sequence Recognition", IEEE TPAMI 39 (2017), with strides instead of pooling.

    Args:
        height: H, pixels of a column in each channel.
        labels: K, number of labels.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: hidden size of each direction.
        layers: number of recurrent layers.
        dropout: dropout probability, before, between and after recurrent layers.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.
        channels: C, channels of an image.
        filters: F, filters of the first convolution; 0: no convolutions.
        width: columns of an image, for convolutions.

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
        channels: int = 1,
        filters: int = 0,
        width: int = 0,
    ) -> None:
        super().__init__()
        self.channels, sides, parts = channels, (height, width), list[nn.Module]()
        for i, kernel in enumerate(KERNELS if filters else ()):
            stride = 2 if min(sides) >= MIN_SIDE else 1
            count = filters * 2**i
            convolution = nn.Conv2d(channels, count, kernel, stride, padding=kernel // 2, bias=False)
            parts += [convolution, nn.GroupNorm(math.gcd(count, GROUPS), count), nn.ReLU()]
            channels, sides = count, (-(-sides[0] // stride), -(-sides[1] // stride))
        self.convolutions = nn.Sequential(*parts, nn.Dropout(dropout)) if filters else None
        self.recurrent = stack(channels * sides[0], hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.recurrent.output_size, labels)
        convolutional = f"conv {filters}, " if filters else ""
        self.title = f"{convolutional}{title(cell, layers, hidden, bidirectional=True)}"

    def forward(self, images: Tensor) -> Tensor:
        """Map images as columns (T, B, C*H), channel by channel, to logits (B, K)."""
        x = images
        if self.convolutions is not None:
            maps = self.convolutions(x.unflatten(2, (self.channels, -1)).permute(1, 2, 3, 0))
            x = maps.permute(3, 0, 1, 2).flatten(2)
        h, _ = self.recurrent(x)
        logits: Tensor = self.output(self.dropout(h.mean(0)))
        return logits

    def loss(self, batch: tuple[Tensor, Tensor], state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the cross-entropy in nats summed over a batch, the batch size, and no state."""
        images, labels = batch
        return cross_entropy(self(images), labels, reduction="sum"), len(labels), None
