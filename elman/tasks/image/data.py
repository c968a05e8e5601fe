"""Images with labels, from wherever they are."""

import gzip
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.files import read_bytes
from elman.tasks._images import picture
from elman.tasks._parts import Example, usable
from elman.tasks._table import read_table

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
IDX = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def digits() -> Iterator[Example]:
    """scikit-learn's: 1,797 of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return arrays(found.images, found.target, "digit", most=16)


def arrays(images: NDArray[Any], labels: Sequence[Any], name: str = "image", most: int = 1) -> Iterator[Example]:
    """Images (N, rows, columns) with values from 0 to `most`, and N labels."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield Example((image / most).astype(np.float32), str(label), name=f"{name} {i}")


def read(paths: Sequence[Path], skip_bad: bool) -> Iterator[Example]:
    """The images of a folder, a CSV file, or IDX files.

    Raises:
        BadInput: for anything else; for an image that cannot be read, if these are not skipped.
    """
    if len(paths) == 1 and paths[0].is_dir():
        return _folder(paths[0], skip_bad)
    kinds = {path.suffix.lower() for path in paths if path.suffix.lower() != ".gz"}
    if len(paths) == 1 and kinds & {".csv", ".tsv", ".parquet"}:
        return _table(paths[0])
    if len(paths) == 2:
        return _idx(paths)
    raise BadInput(
        f"{paths[0]}: expected a folder of images by label, a CSV file, or two IDX files, got "
        f"{len(paths)} file{'s' * (len(paths) > 1)} of another kind"
    )


def _folder(folder: Path, skip_bad: bool) -> Iterator[Example]:
    labels = sorted(path for path in folder.iterdir() if path.is_dir())
    if not labels:
        raise BadInput(f"{folder}: expected a folder for each label, got none")
    found = ((path, label.name) for label in labels for path in sorted(label.rglob("*")))
    made = (partial(_pictured, *one) for one in found if one[0].suffix.lower() in SUFFIXES)
    return usable(made, skip_bad, str(folder))


def _pictured(path: Path, label: str) -> Example:
    return Example(picture(path), label, name=str(path))


def _table(path: Path) -> Iterator[Example]:
    table = read_table(path)
    if "label" not in table.columns:
        raise BadInput(f"{path}: expected a column 'label', got {', '.join(table.columns)[:80]}")
    pixels = table.drop("label").to_numpy().astype(np.float32)
    side = round(pixels.shape[1] ** 0.5)
    if side * side != pixels.shape[1]:
        raise BadInput(f"{path}: expected as many pixels as a square has, got {pixels.shape[1]} columns beside 'label'")
    most = pixels.max() or 1
    scale = 255 if most > 16 else 16 if most > 1 else 1
    for i, (row, label) in enumerate(zip(pixels, table["label"].to_list(), strict=True), 1):
        yield Example((row / scale).reshape(side, side), str(label), name=f"{path}: row {i}")


def _idx(paths: Sequence[Path]) -> Iterator[Example]:
    images, labels = sorted((_array(path) for path in paths), key=lambda a: -a.ndim)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise BadInput(
            f"{paths[0]}, {paths[1]}: expected images (N, rows, columns) and labels (N), got "
            f"{images.shape} and {labels.shape}"
        )
    return arrays(images, labels.tolist(), most=255)


def _array(path: Path) -> NDArray[Any]:
    data = read_bytes(path)
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX:
        raise BadInput(f"{path}: expected an IDX file, which begins with two zeros and a type, got {data[:4].hex()}")
    dims = struct.unpack_from(f">{data[3]}I", data, 4)
    found = np.frombuffer(data, IDX[data[2]], offset=4 + 4 * data[3])
    if found.size != np.prod(dims):
        raise BadInput(f"{path}: expected {' x '.join(map(str, dims))} numbers by its head, got {found.size}")
    return found.reshape(dims)
