"""Tables in files: CSV, TSV, JSON lines, Parquet.

`rows` reads one after the other; what they hold is as it is written, of CSV and TSV a text. `read_table` has all of a
table in memory, its columns typed, for tasks that need all of it at once: series, and images in rows of pixels.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from elman.errors import BadInput
from elman.files import opened, read_text, text_lines

HEAD = 100  # rows of JSON among which a column is looked for
SLICE = 1 << 16  # rows of Parquet that are read at once
LONGEST = 1 << 24  # characters of a cell; a quotation mark without its other would take all of the file


def read_table(path: Path, encoding: str = "utf-8") -> pl.DataFrame:
    """A table, of the kind that the name of the file says.

    Raises:
        BadInput: if it cannot be read, or is empty.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            with opened(path):
                table = pl.read_parquet(path)
        elif suffix in (".jsonl", ".ndjson"):
            table = pl.read_ndjson(read_text(path, encoding).encode())
        else:
            text = read_text(path, encoding).encode()
            separator = "\t" if suffix == ".tsv" else ","
            table = pl.read_csv(text, separator=separator, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise _no_table(str(path), error) from None
    if not len(table):
        raise BadInput(f"{path}: expected rows, got a table without any")
    return table


def column(path: Path, table: pl.DataFrame, name: str, option: str) -> pl.Series:
    """A column of a table.

    Raises:
        BadInput: if there is none of that name.
    """
    _check(path, table.columns, name, option)
    return table[name]


def rows(path: Path, columns: Mapping[str, str], encoding: str = "utf-8") -> Iterator[tuple[Any, ...]]:
    """Of every row, what stands in some columns; None where nothing does.

    Args:
        path: of the file.
        columns: the names, by the option that names them.
        encoding: of the text.

    Raises:
        BadInput: if there is no such column, or the table cannot be read or is empty; when that is come to.
    """
    kind = {".parquet": _parquet, ".jsonl": _json, ".ndjson": _json}.get(path.suffix.lower(), _separated)
    some = False
    for row in kind(path, columns, encoding):
        some = True
        yield row
    if not some:
        raise BadInput(f"{path}: expected rows, got a table without any")


def _separated(path: Path, columns: Mapping[str, str], encoding: str) -> Iterator[tuple[Any, ...]]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    lines = (f"{line}\n" for line in text_lines(path, encoding, newlines=True))
    reader = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        names = next(reader, [])
        at = _places(path, columns, names)
        for row in reader:
            if len(row) > len(names):
                raise BadInput(f"{path}: line {reader.line_num}: expected {len(names)} columns, got {len(row)}")
            yield tuple((row[i] or None) if i < len(row) else None for i in at)
    except csv.Error as error:
        raise _no_table(f"{path}: line {reader.line_num}", error) from None


def _json(path: Path, columns: Mapping[str, str], encoding: str) -> Iterator[tuple[Any, ...]]:
    lines = enumerate(text_lines(path, encoding, newlines=True), 1)
    found = (_object(path, i, line) for i, line in lines if line.strip())
    head = list(islice(found, HEAD))
    _places(path, columns, list(dict.fromkeys(chain.from_iterable(head))))
    for row in chain(head, found):
        yield tuple(row.get(name) for name in columns.values())


def _object(path: Path, i: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise _no_table(f"{path}: line {i}", error) from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: line {i}: expected a JSON object, got {line:.40}")
    return found


def _parquet(path: Path, columns: Mapping[str, str], encoding: str) -> Iterator[tuple[Any, ...]]:
    try:
        with opened(path):
            table = pl.scan_parquet(path, glob=False)
        _places(path, columns, table.collect_schema().names())
        begin = 0
        while len(some := table.select(columns.values()).slice(begin, SLICE).collect()):
            yield from some.iter_rows()
            begin += len(some)
    except pl.exceptions.PolarsError as error:
        raise _no_table(str(path), error) from None


def _no_table(where: str, error: Exception) -> BadInput:
    return BadInput(f"{where}: expected a table, got what cannot be read as one: {str(error).splitlines()[0]}")


def _places(path: Path, columns: Mapping[str, str], names: Sequence[str]) -> list[int]:
    for option, name in columns.items():
        _check(path, names, name, option)
    return [names.index(name) for name in columns.values()]


def _check(path: Path, names: Sequence[str], name: str, option: str) -> None:
    if name not in names:
        raise BadInput(f"{path}: {option}: expected one of the columns {_listed(names)}; got {name!r}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)[:200]
