"""Images with texts, from wherever they are."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.tasks import _manifest
from elman.tasks._images import picture
from elman.tasks._parts import Example
from elman.tasks._table import Source
from elman.tasks.caption.options import CaptionOptions

SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digits() -> Iterator[Example]:
    """scikit-learn's, spelled out: 1,797 of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return arrays(found.images / 16, [SPELLED[digit] for digit in found.target])


def arrays(images: NDArray[Any], texts: Sequence[str]) -> Iterator[Example]:
    """Images (N, rows, columns) with values from 0 to 1, and N texts.

    Raises:
        BadInput: if there are not as many of both; for an image that has a NaN.
    """
    if images.ndim != 3 or len(images) != len(texts):
        raise BadInput(
            f"caption: expected images (N, rows, columns) and N texts, got {images.shape} and {len(texts)} texts"
        )
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        if not np.isfinite(image).all():
            raise BadInput(f"caption: image {i}: expected numbers from 0 to 1, got one that is not finite")
        yield Example(image.astype(np.float32), text, name=f"image {i}")


def read(paths: Sequence[Source], options: CaptionOptions) -> Iterator[Example]:
    """The images that a table names, with its texts; those of one file are one group.

    Raises:
        BadInput: for a table without these columns, a row without a text, or an image that cannot be read.
    """
    return _manifest.read(paths, options, lambda file, text: picture(file))
