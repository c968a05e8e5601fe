"""Grey and colour images from files and Python arrays."""

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

Image = NDArray[np.float32]  # grey, (rows, columns), or colour, (rows, columns, 3); 0 to 1
RGB = 3  # channels of a colour image
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601, as in Pillow
WHITE_16_BIT = 65535  # white in 16-bit images
UNREADABLE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # formats that Pillow identifies but cannot read by itself
DAMAGED = (  # exceptions of Pillow's readers for damaged files
    OSError, SyntaxError, ValueError, EOFError, RuntimeError, AssertionError, AttributeError, LookupError, TypeError,
    ArithmeticError, struct.error, zlib.error,
)  # fmt: skip
MAX_PIXELS = 1 << 26  # of the shape that images are scaled to
TOLERANCE = 1e-6  # relative tolerance above white, for computed values


def picture(path: Path, color: bool = False) -> Image:
    """Read an image file, rotated as its EXIF data say, with transparency on white.

    Args:
        path: the file.
        color: whether to read an image that has colour as one; otherwise all images are read as grey.

    Raises:
        BadInput: if the file is not an image.
    """
    from PIL import Image as Pillow

    check_exists(path, "an image")
    try:
        with warnings.catch_warnings():
            # Pillow warns about metadata that are not needed, and about formats that it will not read some day.
            for category in (UserWarning, DeprecationWarning):
                warnings.simplefilter("ignore", category)
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            # Opened by path, Pillow 13 memory-maps an uncompressed rotated TIFF with its sides swapped.
            with path.open("rb") as file, Pillow.open(file, formats=_formats()) as opened:
                pixels, white = _pixels(_upright(opened, path), color)
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        raise BadInput(f"{path}: expected an image of at most {Pillow.MAX_IMAGE_PIXELS:,} pixels, got more") from None
    except MemoryError:
        raise BadInput(f"{path}: expected an image, got one that does not fit into memory") from None
    except DAMAGED as error:
        raise BadInput(f"{path}: expected an image, got a file that cannot be read as one: {error}") from None
    return within(without_color(pixels) / np.float32(white), 1, str(path))


def without_color(image: Image) -> Image:
    """Return an image whose channels are all equal as a grey one, and any other unchanged.

    >>> without_color(np.ones((2, 4, 3), np.float32)).shape
    (2, 4)
    """
    is_grey = image.ndim == 3 and bool((image == image[..., :1]).all())
    return np.ascontiguousarray(image[..., 0]) if is_grey else image


def with_channels(image: Image, channels: int) -> Image:
    """Return an image with one channel, as (rows, columns), or with three, as (rows, columns, 3).

    >>> red = np.array([[[1, 0, 0]]], np.float32)
    >>> with_channels(red, 1).round(3), with_channels(np.ones((1, 1), np.float32), 3)
    (array([[0.299]], dtype=float32), array([[[1., 1., 1.]]], dtype=float32))
    """
    if image.ndim == 3 and channels == 1:
        return image @ LUMA
    return np.repeat(image[..., np.newaxis], RGB, axis=2) if image.ndim == 2 and channels == RGB else image


def is_image(path: Path) -> bool:
    """Return whether Pillow can read a file, by its suffix or else by its first bytes."""
    from PIL import Image as Pillow

    formats = _formats()
    if Pillow.registered_extensions().get(path.suffix.lower()) in formats:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(path, formats=[name for name in formats if name != "TGA"]):  # TGA has no magic number
                return True
    except (Pillow.DecompressionBombError, MemoryError):
        return True
    except DAMAGED:
        return False


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that Pillow reads by itself and completely, not only their headers."""
    from PIL import Image as Pillow

    Pillow.init()
    return tuple(sorted(Pillow.OPEN.keys() - UNREADABLE))


def _upright(opened: Any, path: Path) -> Any:
    """Rotate a Pillow image as its EXIF data say."""
    from PIL import ExifTags
    from PIL import Image as Pillow

    flip = Pillow.Transpose
    turns = {
        2: flip.FLIP_LEFT_RIGHT,
        3: flip.ROTATE_180,
        4: flip.FLIP_TOP_BOTTOM,
        5: flip.TRANSPOSE,
        6: flip.ROTATE_270,
        7: flip.TRANSVERSE,
        8: flip.ROTATE_90,
    }
    if opened.format == "TIFF" and opened.tile:  # Pillow would fill missing strips with black
        covered = max(tile[1][3] for tile in opened.tile)
        if covered < opened.tag_v2.get(ExifTags.Base.ImageLength, covered):
            raise ValueError(f"{covered} of {opened.tag_v2[ExifTags.Base.ImageLength]} rows")
    opened.load()
    try:
        orientation = opened.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED as error:
        note(f"{path}: its EXIF data cannot be read, so it is not rotated: {error}")
        return opened
    return opened.transpose(turns[orientation]) if orientation in turns else opened


def _pixels(opened: Any, color: bool) -> tuple[Image, int]:
    """Return the pixels of a Pillow image, in colour or grey, and the value of white."""
    from PIL import Image as Pillow

    if opened.mode == "I" or opened.mode.startswith("I;16"):
        return np.asarray(opened).astype(np.float32), WHITE_16_BIT
    if opened.mode == "F":
        return np.asarray(opened, np.float32), 1
    if opened.has_transparency_data:
        coloured = opened.convert("RGBA")
        opened = Pillow.alpha_composite(Pillow.new("RGBA", coloured.size, "white"), coloured)
    return np.asarray(opened.convert("RGB" if color else "L"), np.float32), 255


def image_of(value: Any, where: str, color: bool = False) -> Image:
    """Validate an in-memory image.

    Args:
        value: the image, from 0 to 1: (rows, columns), or with `color` also (rows, columns, C) with C=1 channel (grey),
            3 (red, green, blue) or 4 (also opacity; the background is white).
        where: the image, for error messages.
        color: whether it may have colour.

    Raises:
        BadInput: if it is not an image.
    """
    shapes = "(rows, columns) or (rows, columns, 3)" if color else "(rows, columns)"
    try:
        pixels = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{where}: expected an image {shapes}: {error}") from None
    has_channels = color and pixels.ndim == 3 and pixels.shape[2] in (1, RGB, RGB + 1)
    if (pixels.ndim != 2 and not has_channels) or not pixels.size or pixels.dtype.kind not in "biuf":
        is_first = color and pixels.ndim == 3 and pixels.shape[0] in (1, RGB, RGB + 1)
        advice = "; move the channels to the last axis: images.transpose(0, 2, 3, 1)" if is_first else ""
        raise BadInput(f"{where}: expected an image {shapes}, got {pixels.dtype} of shape {pixels.shape}{advice}")
    if pixels.dtype.kind in "iu" and pixels.max() > 1:
        white = "; divide by 255 if that is white"
        raise BadInput(f"{where}: expected numbers from 0 to 1, got {pixels.max()}{white}")
    image = within(pixels.astype(np.float32), 1, where)
    if image.ndim == 3 and image.shape[2] == RGB + 1:
        opacity = image[..., RGB:]
        image = image[..., :RGB] * opacity + (1 - opacity)
    return without_color(image)


def image_example(value: Any, color: bool = False) -> Example:
    """Make an example, without a target, of an image file or of an in-memory image from 0 to 1.

    Args:
        value: a path, or an image as for `image_of`.
        color: as in `picture` and `image_of`.

    Raises:
        BadInput: if it is not an image.
    """
    if isinstance(value, str | Path):
        return Example(picture(Path(value), color), name=str(value))
    return Example(image_of(value, "image", color))


def images_with(
    task: str,
    images: Sequence[Any],
    targets: Sequence[Any],
    target_of: Callable[[Any, str], str],
    skip_bad: bool,
    color: bool = False,
) -> Iterator[Example]:
    """Iterate over examples of in-memory images and their targets.

    Args:
        task: name of the task, for error messages.
        images: images, as for `image_of`.
        targets: target of each image.
        target_of: validates a target, given its position; raises BadInput.
        skip_bad: whether to skip invalid examples.
        color: whether images may have colour.

    Raises:
        BadInput: if an example is invalid and `skip_bad` is False.
    """
    pairs = enumerate(zip(images, targets, strict=True), 1)
    make = partial(_image_with, task, color=color, target_of=target_of)
    return usable((partial(make, f"image {i}", *pair) for i, pair in pairs), skip_bad, task)


def _image_with(
    task: str, name: str, image: Any, target: Any, target_of: Callable[[Any, str], str], color: bool
) -> Example:
    where = f"{task}: {name}"
    return Example(image_of(image, where, color), target_of(target, where), name=name)


def within(image: Image, most: float, where: str) -> Image:
    """Check that the pixels of an image are from 0 to `most`, and return the image.

    Args:
        image: the image.
        most: largest valid value.
        where: the image, for the error message.

    Raises:
        BadInput: if a pixel is out of range or not finite.
    """
    fits = (image >= 0) & (image <= most * (1 + TOLERANCE))
    if not fits.all():
        raise BadInput(f"{where}: expected numbers from 0 to {most:g}, got {image[~fits][0]:g}")
    return image


def scaled(image: Image, rows: int, columns: int) -> Image:
    """Resize an image by bilinear interpolation.

    Args:
        image: the image.
        rows: rows of the result.
        columns: columns of the result.

    Raises:
        BadInput: if the result has more than `MAX_PIXELS`.
    """
    from PIL import Image as Pillow

    if image.shape[:2] == (rows, columns):
        return image
    if rows * columns > MAX_PIXELS:
        raise BadInput(f"expected images of at most {MAX_PIXELS:,} pixels, got a shape of {rows:,} x {columns:,}")
    resized = [
        np.asarray(Pillow.fromarray(channel).resize((columns, rows), Pillow.Resampling.BILINEAR), np.float32)
        for channel in (np.moveaxis(image, 2, 0) if image.ndim == 3 else [image])
    ]
    return np.stack(resized, axis=2) if image.ndim == 3 else resized[0]
