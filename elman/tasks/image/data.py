"""Images with labels, from wherever they are."""

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

from elman.data.examples import Example, tell_left_out, usable
from elman.data.images import Image, is_image, picture, within
from elman.data.tables import column_names, rows
from elman.data.validation import label_of, listed
from elman.errors import BadInput
from elman.io.files import read_bytes, visible_files
from elman.io.terminal import note

IDX = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
BLOCK = 1 << 20  # bytes of an IDX file that are read at once
WHITES = (1, 16, 255)  # what white may be in a table
EXPECTED = "a folder of images by label, a CSV file, or two IDX files"


class Unscaled(NamedTuple):
    """An image whose file does not say which number is white: that is found from all that is trained on."""

    numbers: Image

    def tobytes(self) -> bytes:
        """Of the numbers."""
        return self.numbers.tobytes()


def white_of(train: Iterable[Example]) -> int:
    """Which number is white in what is trained on: the least of `WHITES` that none of its images is beyond."""
    most = max((float(e.input.numbers.max()) for e in train if isinstance(e.input, Unscaled)), default=255)
    return next(white for white in WHITES if most <= white)


def scaled_by(white: int, example: Example) -> Image:
    """The image of an example, from 0 to 1.

    Raises:
        BadInput: where one without a white of its own has numbers beyond this.
    """
    if not isinstance(example.input, Unscaled):
        found: Image = example.input
        return found
    return within(example.input.numbers, white, f"{example.name}: as in the training") / np.float32(white)


def digits() -> Iterator[Example]:
    """scikit-learn's: 1,797 of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pairs = zip(found.images / 16, found.target, strict=True)
    return (Example(image.astype(np.float32), str(label), name=f"digit {i}") for i, (image, label) in enumerate(pairs))


def read(paths: Sequence[Path], skip_bad: bool) -> Iterator[Example]:
    """The images of a folder, a CSV file, or IDX files.

    Raises:
        BadInput: for anything else; for an image that cannot be read, if these are not skipped.
    """
    for path in paths:
        if not path.exists():
            raise BadInput(f"{path}: expected {EXPECTED}; found nothing of that name")
    if len(paths) == 1 and paths[0].is_dir():
        return _folder(paths[0], skip_bad)
    kinds = {path.suffix.lower() for path in paths if path.suffix.lower() != ".gz"}
    if len(paths) == 1 and kinds & {".csv", ".tsv", ".parquet"}:
        return _table(paths[0], skip_bad)
    if len(paths) == 2:
        return _idx(paths, skip_bad)
    raise BadInput(f"{paths[0]}: expected {EXPECTED}; got {len(paths)} file{'s' * (len(paths) > 1)} of another kind")


def _folder(folder: Path, skip_bad: bool) -> Iterator[Example]:
    """The images in the folders of a folder, which are their labels; what is no image is counted and left out."""
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    labels = [path for path in inside if path.is_dir()]
    if not labels:
        raise BadInput(f"{folder}: expected a folder for each label, got none")
    tell_left_out(str(folder), [path for path in inside if not path.is_dir()], "beside the folders of the labels")
    found, others = list[tuple[Path, str]](), list[Path]()
    for label in labels:
        files = list(visible_files(label))
        images = [path for path in files if not path.exists() or (path.is_file() and is_image(path))]
        found += [(path, label.name) for path in images]
        others += sorted(set(files) - set(images))
        if not images:
            note(f"{label}: no images of this label")
    tell_left_out(str(folder), others, "that are not images Pillow can read")
    if not found:
        raise BadInput(f"{folder}: expected images in the folders of the labels, got none")
    return usable((partial(_pictured, *one) for one in found), skip_bad, str(folder))


def _pictured(path: Path, label: str) -> Example:
    return Example(picture(path), label, name=str(path))


def _table(path: Path, skip_bad: bool) -> Iterator[Example]:
    columns = column_names(path)
    if "label" not in columns:
        raise BadInput(f"{path}: expected a column 'label', got {listed(columns)}")
    name, count = Counter(columns).most_common(1)[0]
    if count > 1:
        raise BadInput(f"{path}: expected columns of different names, got {count} that are called {name!r}")
    pixels = [column for column in columns if column != "label"]
    side = round(len(pixels) ** 0.5)
    if not pixels or side * side != len(pixels):
        got = len(pixels) or "no"
        raise BadInput(f"{path}: expected as many pixels as a square has, got {got} columns beside 'label'")
    found = enumerate(rows(path, {name: name for name in ("label", *pixels)}), 1)
    made = (
        partial(_row, f"{path}: row {i}", label, values, pixels, side)
        for i, (label, *values) in found
        if label is not None or any(value is not None for value in values)  # an empty line is none
    )
    return usable(made, skip_bad, str(path))


def _row(where: str, label: Any, values: Sequence[Any], columns: Sequence[str], side: int) -> Example:
    try:
        numbers = np.array(values, np.float32)
    except (ValueError, TypeError, OverflowError):
        numbers = np.array([_number(value) for value in values], np.float32)
    fits = (numbers >= 0) & (numbers <= WHITES[-1])
    if not fits.all():
        i = int(fits.argmin())
        got = "nothing" if values[i] is None else f"{values[i]!r:.40}" if np.isnan(numbers[i]) else f"{values[i]:.40}"
        kind = "a number" if np.isnan(numbers[i]) else f"a number from 0 to {WHITES[-1]}"
        raise BadInput(f"{where}: column {listed([columns[i]])}: expected {kind}, got {got}")
    return Example(Unscaled(numbers.reshape(side, side)), label_of(label, where), name=where)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (ValueError, TypeError):
        return math.nan


def _idx(paths: Sequence[Path], skip_bad: bool) -> Iterator[Example]:
    arrays = sorted(((_array(path), path) for path in paths), key=lambda one: -one[0].ndim)
    (images, path), (labels, other) = arrays
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise BadInput(
            f"{path}, {other}: expected images (N, rows, columns) and labels (N), got {images.shape} and {labels.shape}"
        )
    pairs = enumerate(zip(images, labels.tolist(), strict=True), 1)
    return usable((partial(_of_idx, f"{path}: image {i}", *pair) for i, pair in pairs), skip_bad, str(path))


def _of_idx(name: str, image: NDArray[Any], label: Any) -> Example:
    numbers = within(image.astype(np.float32), WHITES[-1], name)
    known = image.dtype == np.uint8  # of other kinds of numbers nobody knows which is white
    return Example(numbers / np.float32(255) if known else Unscaled(numbers), label_of(label, name), name=name)


def _array(path: Path) -> NDArray[Any]:
    """The array of an IDX file, perhaps of gzip, of which no more is read than its head tells."""
    data = read_bytes(path)
    stream: Any = gzip.GzipFile(fileobj=io.BytesIO(data)) if data[:2] == b"\x1f\x8b" else io.BytesIO(data)
    try:
        return _idx_array(path, stream)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: expected an IDX file, got a damaged gzip file: {error}") from None


def _idx_array(path: Path, stream: IO[bytes]) -> NDArray[Any]:
    first = _read(stream, BLOCK)
    head = first[:4]
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX:
        raise BadInput(f"{path}: expected an IDX file, which begins with two zeros and a type, got {head.hex()}")
    kind, begin = np.dtype(IDX[head[2]]), 4 + 4 * head[3]
    if len(first) < begin:
        raise BadInput(f"{path}: expected a head of {begin} bytes for {head[3]} dimensions, got {len(first)} in all")
    dims = struct.unpack_from(f">{head[3]}I", first, 4)
    size = math.prod(dims) * kind.itemsize
    body = first[begin:] + _read(stream, max(size + 1 - len(first) + begin, 0))
    if len(body) != size or not size or not dims:
        raise BadInput(
            f"{path}: expected {' x '.join(map(str, dims)) or 'several'} numbers by its head, of {kind.itemsize} "
            f"bytes each, and at least one; got {'more' if len(body) > size else f'{len(body):,} bytes'}"
        )
    return np.frombuffer(body, kind).reshape(dims)


def _read(stream: IO[bytes], size: int) -> bytes:
    """At most so many bytes, with no more memory than there are."""
    found, left = list[bytes](), size
    while left and (some := stream.read(min(left, BLOCK))):
        found.append(some)
        left -= len(some)
    return b"".join(found)
