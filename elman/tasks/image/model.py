"""Convolutions and a bidirectional recurrent network that classify images."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from elman.tasks.recurrent_layers import stack, title

# The side of each kernel, the stride on images of at least MIN_SIDE, and filters as multiples of those of the first.
CONVOLUTIONS = ((5, 2, 1), (3, 1, 1), (3, 2, 2))
MIN_SIDE = 12  # of the shorter side of what a convolution reads
GROUPS = 4  # of filters that are normalized together: of each image alone, so that batches can be divided


class ImageClassifier(nn.Module):
    """Bidirectional recurrent layers over the columns of an image, and a linear output over all of their outputs.

    Convolutions read each column with its neighbours before, as in B. Shi, X. Bai and C. Yao, "An End-to-End Trainable
    Neural Network for Image-Based Sequence Recognition", IEEE TPAMI 39 (2017), with strides instead of pooling. The
    output layer reads the mean over all columns and, with convolutions, the maximum.

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
        for kernel, stride, multiple in CONVOLUTIONS if filters else ():
            stride = stride if min(sides) >= MIN_SIDE else 1
            count = filters * multiple
            convolution = nn.Conv2d(channels, count, kernel, stride, padding=kernel // 2, bias=False)
            parts += [convolution, nn.GroupNorm(math.gcd(count, GROUPS), count), nn.ReLU()]
            channels, sides = count, (-(-sides[0] // stride), -(-sides[1] // stride))
        self.convolutions = nn.Sequential(*parts, nn.Dropout(dropout)) if filters else None
        self.recurrent = stack(channels * sides[0], hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear((2 if filters else 1) * self.recurrent.output_size, labels)
        convolutional = f"conv {filters}, " if filters else ""
        self.title = f"{convolutional}{title(cell, layers, hidden, bidirectional=True)}"

    def forward(self, images: Tensor) -> Tensor:
        """Map images as columns (T, B, C*H), channel by channel, to logits (B, K)."""
        x = images
        if self.convolutions is not None:
            maps = self.convolutions(x.unflatten(2, (self.channels, -1)).permute(1, 2, 3, 0))
            x = maps.permute(3, 0, 1, 2).flatten(2)
        h, _ = self.recurrent(x)
        pooled = h.mean(0) if self.convolutions is None else torch.cat((h.mean(0), h.amax(0)), 1)
        logits: Tensor = self.output(self.dropout(pooled))
        return logits

    def loss(self, batch: tuple[Tensor, Tensor], state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the cross-entropy in nats summed over a batch, the batch size, and no state."""
        images, labels = batch
        return cross_entropy(self(images), labels, reduction="sum"), len(labels), None
