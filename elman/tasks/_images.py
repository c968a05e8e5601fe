"""Images in files, in grey."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elman.errors import BadInput

Image = NDArray[np.float32]  # (rows, columns), 0 to 1


def picture(path: Path) -> Image:
    """An image file in grey.

    Raises:
        BadInput: if it is none.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    if not path.is_file():
        raise BadInput(f"{path}: expected an image, found {'a folder' if path.is_dir() else 'nothing of that name'}")
    try:
        with Pillow.open(path) as opened:
            return np.asarray(opened.convert("L"), np.float32) / np.float32(255)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{path}: expected an image, got what cannot be read as one: {error}") from None


def scaled(image: Image, rows: int, columns: int) -> Image:
    """An image of that size."""
    from PIL import Image as Pillow

    if image.shape == (rows, columns):
        return image
    return np.asarray(Pillow.fromarray(image).resize((columns, rows), Pillow.Resampling.BILINEAR), np.float32)
