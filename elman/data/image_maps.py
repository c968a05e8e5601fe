"""Random maps of images, for training: small rotations, shears, scalings, shifts and bends, and mirroring."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

# Shares of the largest rotation in radians; half of the image is 1.
SHIFT = 0.5  # largest shift of an image
BEND = 0.4  # standard deviation of the shifts at the knots of a bend
KNOTS = 5  # in a row and in a column; the first and the last are the edges of the image


def draw_map(amount: float, flip: bool, rng: np.random.Generator) -> NDArray[Any]:
    """Draw an affine map of an image, (2, 3), in coordinates from -1 to 1, as `torch.nn.functional.affine_grid` has it.

    Args:
        amount: the largest rotation in radians, the largest shear, the largest relative change of each side, and twice
            the largest shift relative to half of a side.
        flip: whether to mirror the image, left to right, with probability 1/2.
        rng: the random number generator.

    >>> draw_map(0.0, False, np.random.default_rng(0)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    angle, shear, right, down = rng.uniform(-amount, amount, 4).tolist()
    width, height = ((1 + amount) ** rng.uniform(-1, 1, 2)).tolist()
    if flip and rng.random() < 0.5:
        width = -width
    c, s = math.cos(angle), math.sin(angle)  # rotation @ shear @ scaling:
    return np.array(
        [[c * width, (c * shear - s) * height, SHIFT * right], [s * width, (s * shear + c) * height, SHIFT * down]]
    )


def draw_bend(amount: float, rng: np.random.Generator) -> NDArray[Any]:
    """Draw the shifts of a smooth distortion of an image at its knots, right and down, (2, KNOTS, KNOTS).

    P. Y. Simard, D. Steinkraus and J. C. Platt, "Best Practices for Convolutional Neural Networks Applied to Visual
    Document Analysis", ICDAR 2003, section 2, draw a shift for each pixel and smooth them.

    Args:
        amount: as in `draw_map`.
        rng: the random number generator.
    """
    return BEND * amount * rng.standard_normal((2, KNOTS, KNOTS))


def mapped(images: Tensor, maps: Sequence[NDArray[Any]], bends: Sequence[NDArray[Any]]) -> Tensor:
    """Map images by bilinear interpolation; what lies outside of an image has the value at its edge.

    Args:
        images: (B, C, rows, columns).
        maps: the affine map of each image, (2, 3), from coordinates of the result to those of the image.
        bends: the shifts of each image, (2, rows of knots, columns of knots), which are interpolated between the knots
            by cubic convolution and added to its affine map.

    Returns:
        Images (B, C, rows, columns).

    >>> image = torch.arange(6.0).view(1, 1, 2, 3)
    >>> mapped(image, [np.diag([-1.0, 1.0, 0.0])[:2]], [np.zeros((2, 1, 1))])            # mirrored
    tensor([[[[2., 1., 0.],
              [5., 4., 3.]]]])
    """
    theta, knots = (torch.from_numpy(np.stack(arrays)).to(images.dtype) for arrays in (maps, bends))
    shifts = interpolate(knots, images.shape[2:], mode="bicubic", align_corners=True)
    grid = affine_grid(theta, [*images.shape], align_corners=False) + shifts.permute(0, 2, 3, 1)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
