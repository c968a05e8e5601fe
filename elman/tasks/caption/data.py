"""Images with texts, from wherever they are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.tasks._images import picture
from elman.tasks._parts import Example
from elman.tasks._table import column, read_table
from elman.tasks.caption.options import CaptionOptions

SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digits() -> list[Example]:
    """scikit-learn's, spelled out: 1,797 of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return arrays(found.images / 16, [SPELLED[digit] for digit in found.target])


def arrays(images: NDArray[Any], texts: Sequence[str]) -> list[Example]:
    """Images (N, rows, columns) with values from 0 to 1, and N texts.

    Raises:
        BadInput: if there are not as many of both; for an image that has a NaN.
    """
    if images.ndim != 3 or len(images) != len(texts):
        raise BadInput(
            f"caption: expected images (N, rows, columns) and N texts, got {images.shape} and {len(texts)} texts"
        )
    bad = np.flatnonzero(~np.isfinite(images).all((1, 2)))
    if len(bad):
        raise BadInput(f"caption: image {bad[0]}: expected numbers from 0 to 1, got one that is not finite")
    pairs = enumerate(zip(images.astype(np.float32), texts, strict=True))
    return [Example(image, text, name=f"image {i}") for i, (image, text) in pairs]


def read(paths: Sequence[Path], options: CaptionOptions) -> list[Example]:
    """The images that a table names, with its texts; those of one file are one group.

    Raises:
        BadInput: for a table without these columns, a row without a text, or an image that cannot be read.
    """
    if len(paths) != 1:
        raise BadInput(f"{paths[1]}: expected one table of images and texts, got {len(paths)} files")
    found = list(_rows(paths[0], options))
    kept = [example for example in found if example]
    if len(kept) < len(found):
        print(f"{paths[0]}: left out {len(found) - len(kept)} that cannot be used")
    return kept


def _rows(path: Path, options: CaptionOptions) -> Iterator[Example | None]:
    """An example of each row; None where it cannot be used, if these are skipped."""
    table = read_table(path, options.encoding)
    files = column(path, table, options.path, "--path").to_list()
    texts = column(path, table, options.text, "--text").to_list()
    for i, (file, text) in enumerate(zip(files, texts, strict=True), 1):
        try:
            yield _example(path, i, file, "" if text is None else str(text).strip())
        except BadInput:
            if not options.skip_bad:
                raise
            yield None


def _example(path: Path, i: int, file: str | None, text: str) -> Example:
    if not file or not text:
        raise BadInput(
            f"{path}: row {i}: expected a file and a text, got {'no text' if file else 'no file'}; "
            "--skip-bad leaves it out"
        )
    return Example(picture(path.parent / file), text, group=file, name=str(path.parent / file))
