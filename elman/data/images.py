"""Images in grey, in files and in Python."""

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.examples import Example, usable
from elman.errors import BadInput
from elman.io.files import check_exists
from elman.io.terminal import note

Image = NDArray[np.float32]  # (rows, columns), 0 to 1
DEEP = 65535  # white, where a pixel has 16 bits
UNREAD = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # formats that Pillow knows but cannot read by itself
DAMAGED = (  # what Pillow's formats raise for files that are no whole images
    OSError, SyntaxError, ValueError, EOFError, RuntimeError, AssertionError, AttributeError, LookupError, TypeError,
    ArithmeticError, struct.error, zlib.error,
)  # fmt: skip
NEARLY = 1e-6  # above white, that what was computed may be


def picture(path: Path) -> Image:
    """An image file in grey, upright as its EXIF data say; what is transparent lies on white.

    Raises:
        BadInput: if it is none.
    """
    from PIL import Image as Pillow

    check_exists(path, "an image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of Pillow, about metadata that are not read
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            # Of a path, Pillow 13 maps an uncompressed TIFF that its orientation turns into memory with sides swapped.
            with path.open("rb") as file, Pillow.open(file, formats=_formats()) as opened:
                found, white = _grey(_upright(opened, path))
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        raise BadInput(f"{path}: expected an image of at most {Pillow.MAX_IMAGE_PIXELS:,} pixels, got more") from None
    except MemoryError:
        raise BadInput(f"{path}: expected an image, got one that memory has no room for") from None
    except DAMAGED as error:
        raise BadInput(f"{path}: expected an image, got what cannot be read as one: {error}") from None
    return within(found / np.float32(white), 1, str(path))


def is_image(path: Path) -> bool:
    """Whether a file is an image that Pillow reads, by the ending of its name or else by how it begins."""
    from PIL import Image as Pillow

    formats = _formats()
    if Pillow.registered_extensions().get(path.suffix.lower()) in formats:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(path, formats=[one for one in formats if one != "TGA"]):  # which begins with no mark
                return True
    except (Pillow.DecompressionBombError, MemoryError):
        return True
    except DAMAGED:
        return False


@cache
def _formats() -> tuple[str, ...]:
    """The formats that Pillow reads itself: neither by another program, nor their heads alone."""
    from PIL import Image as Pillow

    Pillow.init()
    return tuple(sorted(Pillow.OPEN.keys() - UNREAD))


def _upright(opened: Any, path: Path) -> Any:
    """An image of Pillow's, turned as its EXIF data say."""
    from PIL import ExifTags
    from PIL import Image as Pillow

    turn = Pillow.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    if opened.format == "TIFF" and opened.tile:  # Pillow would fill rows that lack their strips with black
        covered = max(tile[1][3] for tile in opened.tile)
        if covered < opened.tag_v2.get(ExifTags.Base.ImageLength, covered):
            raise ValueError(f"{covered} of {opened.tag_v2[ExifTags.Base.ImageLength]} rows")
    opened.load()
    try:
        orientation = opened.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED as error:
        note(f"{path}: its EXIF data cannot be read, so it is not turned: {error}")
        return opened
    return opened.transpose(turns[orientation]) if orientation in turns else opened


def _grey(opened: Any) -> tuple[Image, int]:
    """The pixels of an image of Pillow's, and which number is white."""
    from PIL import Image as Pillow

    if opened.mode == "I" or opened.mode.startswith("I;16"):
        return np.asarray(opened).astype(np.float32), DEEP
    if opened.mode == "F":
        return np.asarray(opened, np.float32), 1
    if opened.has_transparency_data:
        coloured = opened.convert("RGBA")
        opened = Pillow.alpha_composite(Pillow.new("RGBA", coloured.size, "white"), coloured)
    return np.asarray(opened.convert("L"), np.float32), 255


def image_of(what: Any, where: str) -> Image:
    """An image that Python has.

    Raises:
        BadInput: if it is not one of numbers (rows, columns) from 0 to 1.
    """
    try:
        found = np.asarray(what)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{where}: expected an image (rows, columns), got what is none: {error}") from None
    if found.ndim != 2 or not found.size or found.dtype.kind not in "biuf":
        raise BadInput(f"{where}: expected an image (rows, columns), got {found.dtype} of shape {found.shape}")
    if found.dtype.kind in "iu" and found.max() > 1:
        white = "; divide whole numbers by 255 if that is white"
        raise BadInput(f"{where}: expected numbers from 0 to 1, got {found.max()}{white}")
    return within(found.astype(np.float32), 1, where)


def images_with(
    task: str, images: Sequence[Any], targets: Sequence[Any], target_of: Callable[[Any, str], str], skip_bad: bool
) -> Iterator[Example]:
    """Images (rows, columns) that Python has, with values from 0 to 1, and as many targets.

    Args:
        task: its name, for complaints.
        images: they.
        targets: what belongs to each.
        target_of: a target, if it is one; else BadInput, with where it is.
        skip_bad: whether what is none is left out.

    Raises:
        BadInput: for one that is none, if these are not skipped.
    """
    pairs = enumerate(zip(images, targets, strict=True), 1)
    return usable((partial(_image_with, task, f"image {i}", *pair, target_of) for i, pair in pairs), skip_bad, task)


def _image_with(task: str, name: str, image: Any, target: Any, target_of: Callable[[Any, str], str]) -> Example:
    where = f"{task}: {name}"
    return Example(image_of(image, where), target_of(target, where), name=name)


def within(image: Image, most: float, where: str) -> Image:
    """An image, if its numbers are from 0 to `most`.

    Raises:
        BadInput: if they are not, or not finite.
    """
    fits = (image >= 0) & (image <= most * (1 + NEARLY))
    if not fits.all():
        raise BadInput(f"{where}: expected numbers from 0 to {most:g}, got {image[~fits][0]:g}")
    return image


def scaled(image: Image, rows: int, columns: int) -> Image:
    """An image of that size."""
    from PIL import Image as Pillow

    if image.shape == (rows, columns):
        return image
    return np.asarray(Pillow.fromarray(image).resize((columns, rows), Pillow.Resampling.BILINEAR), np.float32)
