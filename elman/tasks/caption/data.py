"""Images with texts, from wherever they are."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from elman.tasks import _manifest
from elman.tasks._given import text_of
from elman.tasks._images import image_of, picture
from elman.tasks._parts import Example, usable
from elman.tasks._table import Source
from elman.tasks.caption.options import CaptionOptions

SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digits() -> Iterator[Example]:
    """scikit-learn's, spelled out: 1,797 of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return arrays(found.images / 16, [SPELLED[digit] for digit in found.target], skip_bad=False)


def arrays(images: Sequence[Any], texts: Sequence[Any], *, skip_bad: bool) -> Iterator[Example]:
    """Images (rows, columns) with values from 0 to 1, and as many texts.

    Raises:
        BadInput: for one that is none, if these are not skipped.
    """
    pairs = enumerate(zip(images, texts, strict=True), 1)
    return usable((partial(_array_with, f"image {i}", *pair) for i, pair in pairs), skip_bad, "caption")


def _array_with(name: str, image: Any, text: Any) -> Example:
    return Example(image_of(image, f"caption: {name}"), text_of(text, f"caption: {name}"), name=name)


def read(paths: Sequence[Source], options: CaptionOptions) -> Iterator[Example]:
    """The images that a table names, with its texts; those of one file are one group.

    Raises:
        BadInput: for a table without these columns, a row without a text, or an image that cannot be read.
    """
    return _manifest.read(paths, options, lambda file, text: picture(file))
