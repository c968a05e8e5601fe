"""Reading of images with texts."""

from collections.abc import Iterator, Sequence

from elman.data import manifests
from elman.data.examples import Example
from elman.data.images import images_with, picture
from elman.data.tables import Source
from elman.data.validation import text_of
from elman.tasks.caption.options import CaptionOptions

SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def load_spelled_digits() -> Iterator[Example]:
    """Load scikit-learn's 1,797 digits of 8 x 8 pixels, with their names in words."""
    from sklearn.datasets import load_digits

    dataset = load_digits()
    return images_with("caption", dataset.images / 16, [SPELLED[digit] for digit in dataset.target], text_of, False)


def read(paths: Sequence[Source], options: CaptionOptions) -> Iterator[Example]:
    """Read the images that tables name, with their texts.

    Raises:
        BadInput: for a table without these columns, a row without a text, or an unreadable image.
    """
    return manifests.read(paths, options, lambda file, text: picture(file))
