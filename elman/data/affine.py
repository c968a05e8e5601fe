"""Random affine maps of images, for training: small rotations, shears, scalings and shifts, and mirroring."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

SHIFT = 0.5  # largest shift of an image, as a share of the largest rotation in radians; half of the image is 1


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
    angle, shear, right, down = rng.uniform(-amount, amount, 4)
    width, height = (1 + amount) ** rng.uniform(-1, 1, 2)
    sign = -1.0 if flip and rng.random() < 0.5 else 1.0
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag([sign * width, height])
    return np.column_stack((linear, SHIFT * np.array([right, down])))


def mapped(images: Tensor, maps: Iterable[NDArray[Any]]) -> Tensor:
    """Map images by bilinear interpolation; what lies outside of an image has the value at its edge.

    Args:
        images: (B, C, rows, columns).
        maps: the affine map of each image, (2, 3), from coordinates of the result to those of the image.

    Returns:
        Images (B, C, rows, columns).

    >>> image = torch.arange(6.0).view(1, 1, 2, 3)
    >>> mapped(image, [np.diag([-1.0, 1.0, 0.0])[:2]])            # mirrored
    tensor([[[[2., 1., 0.],
              [5., 4., 3.]]]])
    """
    theta = torch.from_numpy(np.stack([*maps])).to(images.dtype)
    grid = affine_grid(theta, [*images.shape], align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
