"""Reading of images with labels."""

import gzip
import io
import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.data.examples import Example, files_by_label, usable
from elman.data.images import RGB, Image, is_image, picture, with_channels, within, without_color
from elman.data.tables import column_names, rows
from elman.data.validation import label_of, listed
from elman.errors import BadInput
from elman.io.files import read_bytes

IDX = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
BLOCK = 1 << 20  # bytes to read at once
MAX_DIMENSIONS = 8  # of an IDX file
MAX_UNZIPPED = 1 << 30  # bytes of the numbers in a compressed IDX file
WHITE_VALUES = (1, 16, 255)  # possible values of white in a table
EXPECTED = "a folder of images by label, a CSV file, or two IDX files"


class Unscaled(NamedTuple):
    """An image whose file does not define the value of white; `find_white` finds it from the training part."""

    numbers: Image

    @property
    def ndim(self) -> int:
        """Number of axes: 3 in colour."""
        return self.numbers.ndim

    def tobytes(self) -> bytes:
        """Return the content as bytes, to find duplicates."""
        return self.numbers.tobytes()


def find_white(train: Iterable[Example]) -> int:
    """Return the value of white in the training part: the least of `WHITE_VALUES` that no image exceeds."""
    highest = max((float(e.input.numbers.max()) for e in train if isinstance(e.input, Unscaled)), default=255)
    return next(white for white in WHITE_VALUES if highest <= white)


def scale_by(white: int, example: Example) -> Image:
    """Return the image of an example, from 0 to 1.

    Raises:
        BadInput: if an image without its own white has values above `white`.
    """
    if not isinstance(example.input, Unscaled):
        image: Image = example.input
        return image
    return within(example.input.numbers, white, f"{example.name}: as in the training") / np.float32(white)


def load_sklearn_digits() -> Iterator[Example]:
    """Load scikit-learn's 1,797 digits of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    dataset = load_digits()
    pairs = zip(dataset.images / 16, dataset.target, strict=True)
    return (Example(image.astype(np.float32), str(label), name=f"digit {i}") for i, (image, label) in enumerate(pairs))


def read(paths: Sequence[Path], skip_bad: bool, color: bool = True) -> Iterator[Example]:
    """Read the images of a folder, a CSV file, or IDX files.

    Args:
        paths: the folder or the files.
        skip_bad: whether to skip unreadable images.
        color: whether to read images that have colour as such; otherwise all are read as grey.

    Raises:
        BadInput: for anything else; for an unreadable image, without `skip_bad`.
    """
    for path in paths:
        if not path.exists():
            raise BadInput(f"{path}: expected {EXPECTED}, but it does not exist")
    if len(paths) == 1 and paths[0].is_dir():
        return _read_folder(paths[0], skip_bad, color)
    kinds = {path.suffix.lower() for path in paths if path.suffix.lower() != ".gz"}
    if len(paths) == 1 and kinds & {".csv", ".tsv", ".parquet"}:
        return _read_table(paths[0], skip_bad)
    if len(paths) == 2:
        return _read_idx(paths, skip_bad, color)
    raise BadInput(f"{paths[0]}: expected {EXPECTED}; got {len(paths)} file{'s' * (len(paths) > 1)} of another kind")


def _read_folder(folder: Path, skip_bad: bool, color: bool) -> Iterator[Example]:
    """Read the images in the folders of a folder, whose names are the labels; other files are counted and left out."""
    images = files_by_label(folder, _may_be_image, "images", "that are not images Pillow can read")
    return usable((partial(_read_image, *item, color) for item in images), skip_bad, str(folder))


def _may_be_image(path: Path) -> bool:
    return not path.exists() or (path.is_file() and is_image(path))


def _read_image(path: Path, label: str, color: bool) -> Example:
    return Example(picture(path, color), label, name=str(path))


def _read_table(path: Path, skip_bad: bool) -> Iterator[Example]:
    columns = column_names(path)
    if "label" not in columns:
        raise BadInput(f"{path}: expected a column 'label', got {listed(columns)}")
    name, count = Counter(columns).most_common(1)[0]
    if count > 1:
        raise BadInput(f"{path}: expected unique column names, got {count} columns named {name!r:.60}")
    pixels = [column for column in columns if column != "label"]
    side = round(len(pixels) ** 0.5)
    if not pixels or side * side != len(pixels):
        got = len(pixels) or "none"
        raise BadInput(f"{path}: expected a square number of pixel columns beside 'label', got {got}")
    numbered_rows = enumerate(rows(path, {name: name for name in ("label", *pixels)}), 1)
    readers = (
        partial(_from_row, f"{path}: row {i}", label, values, pixels, side)
        for i, (label, *values) in numbered_rows
        if label is not None or any(value is not None for value in values)  # skips empty lines
    )
    return usable(readers, skip_bad, str(path))


def _from_row(where: str, label: Any, values: Sequence[Any], columns: Sequence[str], side: int) -> Example:
    try:
        numbers = np.array(values, np.float32)
    except (ValueError, TypeError, OverflowError):
        numbers = np.array([_number(value) for value in values], np.float32)
    fits = (numbers >= 0) & (numbers <= WHITE_VALUES[-1])
    if not fits.all():
        i = int(fits.argmin())
        got = "nothing" if values[i] is None else f"{values[i]!r:.40}" if np.isnan(numbers[i]) else f"{values[i]:.40}"
        kind = "a number" if np.isnan(numbers[i]) else f"a number from 0 to {WHITE_VALUES[-1]}"
        raise BadInput(f"{where}: column {listed([columns[i]])}: expected {kind}, got {got}")
    return Example(Unscaled(numbers.reshape(side, side)), label_of(label, where), name=where)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (ValueError, TypeError):
        return math.nan


def _read_idx(paths: Sequence[Path], skip_bad: bool, color: bool) -> Iterator[Example]:
    arrays = sorted(((_read_array(path), path) for path in paths), key=lambda item: -item[0].ndim)
    (images, path), (labels, other) = arrays
    are_images = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == RGB)
    if not are_images or labels.ndim != 1 or len(images) != len(labels):
        raise BadInput(
            f"{path}, {other}: expected images (N, rows, columns) or (N, rows, columns, 3) and labels (N), got "
            f"{images.shape} and {labels.shape}"
        )
    pairs = enumerate(zip(images, labels.tolist(), strict=True), 1)
    return usable((partial(_from_idx, color, f"{path}: image {i}", *pair) for i, pair in pairs), skip_bad, str(path))


def _from_idx(color: bool, name: str, image: NDArray[Any], label: Any) -> Example:
    numbers = without_color(within(image.astype(np.float32), WHITE_VALUES[-1], name))
    numbers = numbers if color else with_channels(numbers, 1)
    is_uint8 = image.dtype == np.uint8  # other types do not define white
    return Example(numbers / np.float32(255) if is_uint8 else Unscaled(numbers), label_of(label, name), name=name)


def _read_array(path: Path) -> NDArray[Any]:
    """Read the array of an IDX file, which may be compressed by gzip, up to the size in its header."""
    data = read_bytes(path)
    is_gzip = data[:2] == b"\x1f\x8b"
    stream: Any = gzip.GzipFile(fileobj=io.BytesIO(data)) if is_gzip else io.BytesIO(data)
    try:
        return _idx_array(path, stream, is_gzip)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: expected an IDX file, got a damaged gzip file: {error}") from None


def _idx_array(path: Path, stream: IO[bytes], is_gzip: bool) -> NDArray[Any]:
    first = stream.read(BLOCK)
    head = first[:4]
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX:
        raise BadInput(f"{path}: expected an IDX file, which begins with two zero bytes and a type, got {head.hex()}")
    if head[3] > MAX_DIMENSIONS:
        raise BadInput(f"{path}: expected at most {MAX_DIMENSIONS} dimensions according to its header, got {head[3]}")
    kind, begin = np.dtype(IDX[head[2]]), 4 + 4 * head[3]
    if len(first) < begin:
        raise BadInput(f"{path}: expected a header of {begin} bytes for {head[3]} dimensions, got {len(first)} in all")
    dims = struct.unpack_from(f">{head[3]}I", first, 4)
    size = math.prod(dims) * kind.itemsize
    if is_gzip and size > MAX_UNZIPPED:  # a thousandth of it may be compressed, so the file is small
        raise BadInput(
            f"{path}: expected at most {MAX_UNZIPPED:,} bytes of numbers in a compressed file, got {size:,} according "
            "to its header; if that is right, decompress it: gunzip FILE"
        )
    body = bytearray(first[begin:])
    del first
    while len(body) <= size and (block := stream.read(min(size + 1 - len(body), BLOCK))):
        body += block
    if len(body) != size or not size or not dims:
        raise BadInput(
            f"{path}: expected {' x '.join(map(str, dims)) or 'several'} numbers according to its header, of "
            f"{kind.itemsize} "
            f"bytes each, and at least one; got {'more' if len(body) > size else f'{len(body):,} bytes'}"
        )
    return np.frombuffer(body, kind).reshape(dims)
