"""Images with texts, from wherever they are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.tasks._images import picture
from elman.tasks._parts import Example
from elman.tasks._table import rows
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


def read(paths: Sequence[Path], options: CaptionOptions) -> Iterator[Example]:
    """The images that a table names, with its texts; those of one file are one group.

    Raises:
        BadInput: for a table without these columns, a row without a text, or an image that cannot be read.
    """
    if len(paths) != 1:
        raise BadInput(f"{paths[1]}: expected one table of images and texts, got {len(paths)} files")
    (path,), skipped = paths, 0
    for i, (file, text) in enumerate(rows(path, {"--path": options.path, "--text": options.text}, options.encoding), 1):
        try:
            yield _example(path, i, "" if file is None else str(file), "" if text is None else str(text).strip())
        except BadInput:
            if not options.skip_bad:
                raise
            skipped += 1
    if skipped:
        print(f"{path}: left out {skipped} that cannot be used")


def _example(path: Path, i: int, file: str, text: str) -> Example:
    if not file or not text:
        raise BadInput(
            f"{path}: row {i}: expected a file and a text, got {'no text' if file else 'no file'}; "
            "--skip-bad leaves it out"
        )
    return Example(picture(path.parent / file), text, group=file, name=str(path.parent / file))
