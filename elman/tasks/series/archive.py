"""Reading of the files of the UCR and UEA archives of time series: .ts and .arff.

A. Bagnall et al., "The UEA multivariate time series classification archive, 2018", arXiv:1811.00075. Both have a header
and then one series a line. In .ts, the channels of a series are separated by colons, its values by commas; in .arff,
the values are attributes, or the lines of a relational attribute, one for each channel.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.data.validation import quoted
from elman.errors import BadInput
from elman.io.files import text_lines

MISSING = ("?", "nan", "na", "")
SUFFIXES = (".ts", ".arff")
ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.*)$", re.IGNORECASE)
RELATION = re.compile(r"^\s*(['\"])(.*?)\1\s*(?:,(.*))?$")
BREAK = re.compile(r"\\n|\n")
NUMERIC = ("numeric", "real", "integer")
TARGETS = ("class", "target", "label")  # names of a last attribute of numbers that is not a value of the series

Channels = NDArray[np.float32]  # (T, C)


class SeriesRow(NamedTuple):
    """A series of a file.

    where: its place, for messages.
    values: NaN where they are missing.
    target: its label or number as it is written; None without one.
    """

    where: str
    values: Channels
    target: str | None


class Header(NamedTuple):
    """The header of a file.

    target: what follows the values of each series: "label", "number", or "" for nothing.
    timestamps: whether values are pairs (time, value).
    relational: whether the channels are lines of one relational attribute, of .arff.
    """

    target: str
    timestamps: bool = False
    relational: bool = False


def read_archive(path: Path, encoding: str) -> tuple[Header, Iterator[SeriesRow | BadInput]]:
    """Read a .ts or .arff file.

    Returns:
        The header, and an iterator over series; an unusable one is an exception to raise.

    Raises:
        BadInput: for a file that cannot be read or whose header is unusable.
    """
    lines = enumerate(text_lines(path, encoding), 1)
    is_arff = path.suffix.lower() == ".arff"
    header = _arff_header(path, lines) if is_arff else _ts_header(path, lines)
    return header, _rows(path, lines, header, is_arff)


def _rows(
    path: Path, lines: Iterator[tuple[int, str]], header: Header, is_arff: bool
) -> Iterator[SeriesRow | BadInput]:
    comment, has_rows = "%" if is_arff else "#", False
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith(comment):
            continue
        has_rows, where = True, f"{path}: line {number}"
        try:
            yield _arff_row(where, line, header) if is_arff else _ts_row(where, line, header)
        except BadInput as error:
            yield error
    if not has_rows:
        raise BadInput(f"{path}: expected at least one series after @data, got none")


def _ts_header(path: Path, lines: Iterator[tuple[int, str]]) -> Header:
    values = dict[str, str]()
    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, *rest = text.split(None, 1)
        if key.lower() == "@data":
            break
        if not key.startswith("@"):
            raise BadInput(f"{path}: line {number}: expected a header that ends with @data, got {quoted(text)}")
        values[key.lower()[1:]] = rest[0].strip() if rest else ""
    else:
        raise BadInput(f"{path}: expected a header that ends with @data, got none")
    flags = {name: values.get(name, "").split()[:1] == ["true"] for name in ("classlabel", "targetlabel", "timestamps")}
    target = "label" if flags["classlabel"] else "number" if flags["targetlabel"] else ""
    return Header(target, flags["timestamps"])


def _ts_row(where: str, line: str, header: Header) -> SeriesRow:
    channels, target = line.strip().split(":"), None
    if header.target:
        if len(channels) < 2:
            raise BadInput(f"{where}: expected values, a colon, and a {header.target}, got {quoted(line.strip())}")
        target = channels.pop().strip()
    values = [
        _numbers(_times_and_values(channel) if header.timestamps else channel.split(","), f"{where}: channel {i}")
        for i, channel in enumerate(channels, 1)
    ]
    return SeriesRow(where, stacked(values), target)


def _times_and_values(channel: str) -> list[str]:
    """Return the values of a channel of pairs: (0,1.5),(1,2.5)."""
    return [pair.rpartition(",")[2] for pair in channel.strip().strip("()").split("),(")]


def _arff_header(path: Path, lines: Iterator[tuple[int, str]]) -> Header:
    kind, name, depth, relational = "", "", 0, False
    for number, line in lines:
        text = line.strip()
        key = text.split(None, 1)[0].lower() if text else ""
        if key == "@data":
            break
        if key == "@end":
            depth = 0
        elif key == "@attribute":
            match = ATTRIBUTE.match(text)
            if match is None:
                raise BadInput(f"{path}: line {number}: expected @attribute, a name and a type, got {quoted(text)}")
            if match[2].strip().lower() == "relational":
                depth, relational = 1, True
            elif not depth:
                kind, name = match[2].strip(), _unquoted(match[1])
        elif text and not text.startswith("%") and key != "@relation":
            raise BadInput(f"{path}: line {number}: expected a header that ends with @data, got {quoted(text)}")
    else:
        raise BadInput(f"{path}: expected a header that ends with @data, got none")
    target = "label" if kind else ""
    if kind.split()[:1] and kind.split()[0].lower() in NUMERIC:
        target = "number" if relational or name.lower() in TARGETS else ""
    return Header(target, relational=relational)


def _arff_row(where: str, line: str, header: Header) -> SeriesRow:
    if header.relational:
        match = RELATION.match(line)
        if match is None:
            raise BadInput(f"{where}: expected the channels in quotation marks, got {quoted(line.strip())}")
        channels = [channel.split(",") for channel in BREAK.split(match[2]) if channel.strip()]
        values = [_numbers(cells, f"{where}: channel {i}") for i, cells in enumerate(channels, 1)]
        return SeriesRow(where, stacked(values), _unquoted(match[3]) if header.target else None)
    cells = next(csv.reader([line.strip()], quotechar="'", skipinitialspace=True))
    target = _unquoted(cells.pop()) if header.target else None
    return SeriesRow(where, stacked([_numbers(cells, where)]), target)


def _unquoted(text: str | None) -> str:
    text = (text or "").strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _numbers(cells: list[str], where: str) -> NDArray[np.float32]:
    return np.array([number_in(cell, f"{where}: value {i}") for i, cell in enumerate(cells, 1)], np.float32)


def number_in(cell: object, where: str) -> float:
    """Return the number in a cell of a file; NaN where it is missing.

    Args:
        cell: the text of the cell; None is missing.
        where: its place, for the message.

    Raises:
        BadInput: for anything else than a finite number, and for one that float32 cannot hold.
    """
    text = "" if cell is None else str(cell).strip()
    if text.lower() in MISSING:
        return float("nan")
    try:
        number = float(text)
    except ValueError:
        raise BadInput(f"{where}: expected a number, got {quoted(text)}") from None
    if not abs(number) <= float(np.finfo(np.float32).max):
        raise BadInput(f"{where}: expected a finite number that float32 can hold, got {quoted(text)}")
    return number


def stacked(channels: list[NDArray[np.float32]]) -> Channels:
    """Return channels as columns, (T, C); shorter ones are missing at the end."""
    T = max(map(len, channels), default=0)
    values = np.full((T, len(channels)), np.nan, np.float32)
    for i, channel in enumerate(channels):
        values[: len(channel), i] = channel
    return values
