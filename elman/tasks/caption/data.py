"""Images with texts, from wherever they are."""

from collections.abc import Iterator, Sequence

from elman.data import manifests
from elman.data.examples import Example
from elman.data.images import images_with, picture
from elman.data.tables import Source
from elman.data.validation import text_of
from elman.tasks.caption.options import CaptionOptions

SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digits() -> Iterator[Example]:
    """scikit-learn's, spelled out: 1,797 of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return images_with("caption", found.images / 16, [SPELLED[digit] for digit in found.target], text_of, False)


def read(paths: Sequence[Source], options: CaptionOptions) -> Iterator[Example]:
    """The images that a table names, with its texts.

    Raises:
        BadInput: for a table without these columns, a row without a text, or an image that cannot be read.
    """
    return manifests.read(paths, options, lambda file, text: picture(file))
