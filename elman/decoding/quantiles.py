"""Quantiles from the outputs of a network, and the loss that fits them."""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def ordered_quantiles(outputs: Tensor) -> Tensor:
    """Convert outputs (..., 3) to three quantiles (..., 3) in ascending order.

    The second output is the median; the others are distances from it, made positive by a softplus.
    """
    below, median, above = outputs.unbind(-1)
    return torch.stack((median - softplus(below), median, median + softplus(above)), -1)


def pinball_loss(quantiles: Tensor, values: Tensor, levels: Tensor) -> Tensor:
    """Return the pinball loss of quantiles (..., Q) for values (...), averaged over the quantiles.

    Koenker and Bassett 1978: q times the error where the value is above the quantile, 1 - q times the error where it is
    below.

    Args:
        quantiles: (..., Q), the predicted quantiles.
        values: (...), the observed values.
        levels: (Q,), the level of each quantile, from 0 to 1.

    >>> levels = torch.tensor([0.1, 0.5, 0.9])
    >>> pinball_loss(torch.tensor([0.0, 1.0, 2.0]), torch.tensor(1.0), levels)     # (0.1 * 1 + 0 + 0.1 * 1) / 3
    tensor(0.0667)
    """
    above = values.unsqueeze(-1) - quantiles
    return torch.maximum(levels * above, (levels - 1) * above).mean(-1)
