"""Quantiles from the outputs of a network, and the loss that fits them."""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def ordered_quantiles(outputs: Tensor, median: int = 1) -> Tensor:
    """Convert outputs (..., Q) to quantiles (..., Q) in ascending order.

    One output is the median; the others are distances from one quantile to the next, made positive by a softplus.

    Args:
        outputs: (..., Q), outputs of a network.
        median: the index of the median.

    >>> ordered_quantiles(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    tensor([0.3069, 1.0000, 1.6931, 2.3863])
    """
    distances = softplus(outputs).unbind(-1)
    quantiles = [outputs[..., median]]
    for distance in distances[median + 1 :]:
        quantiles.append(quantiles[-1] + distance)
    for distance in reversed(distances[:median]):
        quantiles.insert(0, quantiles[0] - distance)
    return torch.stack(quantiles, -1)


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
    return pinball_loss_of_errors(values.unsqueeze(-1) - quantiles, levels)


def pinball_loss_of_errors(errors: Tensor, levels: Tensor) -> Tensor:
    """Return the pinball loss of errors (..., Q), values minus quantiles, averaged over the quantiles."""
    return torch.maximum(levels * errors, (levels - 1) * errors).mean(-1)
