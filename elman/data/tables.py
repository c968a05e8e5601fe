"""Read tables from files: CSV, TSV, JSON lines and Parquet.

`rows` streams rows. `read_table` reads a whole table, for tasks that need whole columns, such as time series. Cells of
CSV and TSV are texts.

CSV is streamed with Python's csv module. Streaming with polars takes a quarter of the time for a table of 200 MB, but
300 MB of memory instead of 75. It also rejects a quotation mark within a cell (5" tape), accepts carriage returns
within cells, requires UTF-8, and does not report the line of an error. Whole tables take less time and memory in
polars, so `read_table` uses it, and uses the csv module to find the line of an error.
"""

import csv
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from elman.data.examples import is_files
from elman.data.frames import Frame
from elman.data.parquet_pages import check_pages
from elman.data.validation import listed
from elman.errors import BadInput
from elman.io.files import STDIN, is_readable_again, opened, read_text, text_lines
from elman.io.schema import parsed
from elman.io.terminal import note

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")  # suffixes of table files
HEAD_ROWS = 100  # rows of JSON that are searched for column names
SLICE_ROWS = 1 << 16  # rows of Parquet read at once
DOUBLED = re.compile(r'(?:^|\t)"(?:[^"\t]|"")*""(?:[^"\t]|"")*"\r?(?:\t|$)')  # a quoted cell with doubled marks
SNIFFED_LINES = 20  # lines used to detect the separator
SEPARATORS = "\t;,"
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
CELL_BYTES = 4  # fewest bytes of memory that a cell of a table of numbers or texts takes
UNREADABLE = (  # exceptions of readers for damaged files
    pl.exceptions.PolarsError, pl.exceptions.PanicException, csv.Error, TypeError, ValueError, OverflowError
)  # fmt: skip
MAX_CELL_SIZE = 1 << 24  # maximum characters of a cell; an unclosed quotation mark takes the rest of the file


Source = Path | Frame  # where a table comes from


def sources(data: Any) -> Sequence[Source]:
    """Return the tables in a task's data: files, or an in-memory table."""
    return data if is_files(data) else [Frame(data)]


def read_table(path: Path, encoding: str = "utf-8", quote: str = "", decimal: str | None = None) -> pl.DataFrame:
    """Read a whole table, in the format that the file's suffix names.

    Args:
        path: the file.
        encoding: encoding of CSV, TSV and JSON files.
        quote: as in `rows`.
        decimal: decimal separator of numbers, if known.

    Raises:
        BadInput: if the table cannot be read or is empty.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            _check_memory(path)
            table = pl.read_parquet(path.absolute(), glob=False)
        elif _reader_of(path) is _json_rows:
            table = pl.DataFrame(list(_json_objects(path, encoding)), infer_schema_length=None)
        else:
            table = _delimited(path, encoding, quote, decimal)
    except UNREADABLE as error:
        raise _not_a_table(str(path), error) from None
    if not len(table):
        raise BadInput(f"{path}: expected at least one row, got an empty table")
    return table


def _delimited(path: Path, encoding: str, quote: str, decimal: str | None) -> pl.DataFrame:
    """Read a whole CSV or TSV table."""
    text = read_text(path, encoding)
    text = text.replace("\r\n", "\n")
    if "\r" in text.partition("\n")[0]:  # carriage returns end lines
        text = text.replace("\r", "\n")
    text = text.strip("\n")
    separator = separator_of(path, text.split("\n", SNIFFED_LINES)[:SNIFFED_LINES], decimal)
    try:
        mark = quote_of(quote, separator, lambda: text.split("\n"))
        table = pl.read_csv(text.encode(), separator=separator, quote_char=mark, infer_schema=False)
        if mark and any(mark in name for name in table.columns):
            table.columns = _unquoted(table.columns, text, separator, mark)
        if breaks := text.count("\n") - len(table):
            note(
                f"{path}: quoted cells have {breaks:,} line breaks, so that {len(table) + breaks:,} lines are "
                f"{len(table):,} rows; if quotation marks are part of the texts, pass --quote none"
            )
        return table
    except pl.exceptions.PolarsError:
        for _ in _csv_rows(path, {}, encoding, quote):  # raises for the line that is wrong
            pass
        raise


def _unquoted(names: Sequence[str], text: str, separator: str, mark: str) -> list[str]:
    """Return the column names of a table, in which polars leaves doubled quotation marks doubled."""
    lines = (f"{line}\n" for line in text.split("\n", SNIFFED_LINES)[:SNIFFED_LINES])
    head = next(csv.reader(lines, delimiter=separator, quotechar=mark), [])
    if len(head) != len(names):
        return list(names)
    renamed = [right if mark in name else name for name, right in zip(names, head, strict=True)]
    if len(set(renamed)) == len(renamed):
        return renamed
    counts = [renamed[:i].count(name) for i, name in enumerate(renamed)]  # duplicates as polars names them
    return [f"{name}_duplicated_{n - 1}" if n else name for name, n in zip(renamed, counts, strict=True)]


def column(path: Path, table: pl.DataFrame, name: str, option: str) -> pl.Series:
    """Return a column of a table.

    Args:
        path: path of the table, for error messages.
        table: the table.
        name: name of the column.
        option: option that names the column, for error messages.

    Raises:
        BadInput: if the table has no such column.
    """
    check_column(path, table.columns, name, option)
    return table[name]


def rows(
    path: Source, columns: Mapping[str, str], encoding: str = "utf-8", quote: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Iterate over the rows of a table, each as a tuple of the values in some columns.

    A value is None in an empty cell and for a column named "".

    Args:
        path: the table.
        columns: column names, by the option that names them.
        encoding: encoding of the text.
        quote: quotation mark of cells; "none" means no quotation mark; "" means `"` in CSV, and also in TSV if some
            cells must be quoted.

    Raises:
        BadInput: if a column does not exist or the table cannot be read or is empty, when the iterator reaches it.
    """
    has_rows = False
    for row in (
        _frame_rows(path, columns) if isinstance(path, Frame) else _reader_of(path)(path, columns, encoding, quote)
    ):
        has_rows = True
        yield row
    if not has_rows:
        raise BadInput(f"{path}: expected at least one row, got an empty table")


def table_columns(lines: Sequence[str], text: str, label: str) -> list[str] | None:
    """Return the columns of a CSV or TSV table if lines are the beginning of one, and None if they may be any texts.

    They are the beginning of a table if the first line has the names of both columns as cells; or if it has the first
    name and others, all without spaces, and all further rows have as many cells. The last row may be incomplete.

    Args:
        lines: the first lines.
        text: name of the column of texts.
        label: name of the column of labels, which may be missing.

    >>> table_columns(["id,text", '1,"well, yes"', "2,no"], "text", "label")
    ['id', 'text']
    >>> table_columns(["text, image and video", "one, two and three"], "text", "label")
    """
    try:
        names, *cells = csv.reader((f"{line}\n" for line in lines), delimiter=separator_of(Path(), lines))
    except csv.Error:
        return None
    if len(names) < 2 or text not in names:
        return None
    are_names = all(re.fullmatch(r"[\w.-]+", name) for name in names)
    is_even = {len(row) for row in cells[:-1]} == {len(names)}
    return names if label in names or (are_names and is_even) else None


def column_names(path: Source, encoding: str = "utf-8", quote: str = "") -> list[str]:
    """Return the column names of a table.

    Raises:
        BadInput: if the table cannot be read.
    """
    if isinstance(path, Frame):
        return path.names
    if _reader_of(path) is _parquet_rows:
        return _scan_parquet(path).collect_schema().names()
    if _reader_of(path) is _json_rows:
        return _keys(islice(_json_objects(path, encoding), HEAD_ROWS))
    try:
        return next(_reader(path, encoding, quote), [])
    except csv.Error as error:
        raise _not_a_table(str(path), error) from None


def separator_of(path: Path, lines: Sequence[str], decimal: str | None = None) -> str:
    """Return the column separator of a table: a tab, a semicolon or a comma.

    It is a tab in .tsv files. Otherwise it is the one that splits the first lines into equally many columns, and of
    several the one with most columns.

    Args:
        path: path of the table.
        lines: the first lines.
        decimal: decimal separator of numbers, if known.

    >>> separator_of(Path("a.csv"), ["date;wind, m/s", "2020-01-01;1,5", "2020-01-02;2,5"])
    ';'
    """
    if path.suffix.lower() == ".tsv":
        return "\t"
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_SIZE))
    head = lines[0] if lines else ""
    if decimal == "," and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", head):  # a single column without a header
        return ";"
    clean = [line.replace("\r", " ") for line in lines]  # csv rejects carriage returns in unquoted cells
    try:
        counts = {
            mark: [len(row) for row in csv.reader(clean, delimiter=mark) if row] for mark in SEPARATORS if mark in head
        }
    except csv.Error:  # a cell larger than `MAX_CELL_SIZE`, which is reported when it is read
        counts = {}
    # The last line may be cut.
    columns = {mark: widths[0] for mark, widths in counts.items() if len(set(widths[:-1])) == 1}
    if columns:
        return max(columns, key=columns.__getitem__)  # of equals, the first
    return next((mark for mark in ",;\t" if mark in head), ";" if decimal == "," else ",")


def quote_of(quote: str, separator: str, lines: Callable[[], Iterable[str]]) -> str | None:
    """Return the quotation mark of a table, or None.

    Args:
        quote: requested quotation mark, as in `rows`.
        separator: column separator.
        lines: returns all lines of the text; none if they cannot be read again.

    Raises:
        BadInput: if the requested mark is invalid.
    """
    if quote == "none":
        return None
    if len(quote.encode()) > 1 or quote in (separator, "\n", "\r"):
        raise BadInput(f"--quote: expected one ASCII character, or none; got {quote!r}")
    return quote or ('"' if separator != "\t" or _is_quoted(lines) else None)


def _is_quoted(lines: Callable[[], Iterable[str]]) -> bool:
    """Return whether tab-separated cells are quoted as in CSV.

    Cells are quoted only if every cell that begins with a quotation mark is a whole quoted cell, and if quotation marks
    in cells are doubled or lines alone would not form rows.
    """
    if not any('"' in line for line in lines()):
        return False
    widths = {line.count("\t") for line in lines() if line}
    if len(widths) == 1 and not any(DOUBLED.search(line) for line in lines()):
        return False
    try:
        quoted = csv.reader((f"{line}\n" for line in lines()), delimiter="\t", strict=True)
        return len({len(row) for row in quoted if row}) == 1
    except csv.Error:
        return False


def _reader_of(path: Path) -> Callable[[Path, Mapping[str, str], str, str], Iterator[tuple[Any, ...]]]:
    suffix = path.suffix.lower()
    if suffix in WORKBOOKS:
        with opened(path):
            raise BadInput(f"{path}: expected CSV, TSV, JSON lines or Parquet, got a workbook; save its sheet as CSV")
    if suffix in (".jsonl", ".ndjson", ".json") or (path == STDIN and _begins_as_json(path)):
        return _json_rows
    return _parquet_rows if suffix == ".parquet" else _csv_rows


def is_table(path: Path) -> bool:
    """Return whether a file is a table, by its suffix; standard input is one."""
    return path.suffix.lower() in TABLES or path == STDIN


def _begins_as_json(path: Path) -> bool:
    with opened(path) as file:
        return file.read(HEAD_ROWS).lstrip().startswith((b"{", b"["))


def _frame_rows(frame: Frame, columns: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    _column_indices(frame, columns, frame.names)
    missing = [None] * max(map(len, frame.columns.values()), default=0)
    values = [frame.columns.get(name, missing) for name in columns.values()]
    yield from zip(*values, strict=True)


def _reader(path: Path, encoding: str, quote: str) -> Any:
    """Return a csv reader of a table."""
    lines = _lines(path, encoding)
    first = list(islice(lines, SNIFFED_LINES))
    separator = separator_of(path, first)
    mark = quote_of(quote, separator, lambda: _lines(path, encoding) if is_readable_again(path) else ())
    terminated = (f"{line}\n" for line in chain(first, lines))
    if mark is None:
        return csv.reader(terminated, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(terminated, delimiter=separator, quotechar=mark, strict=True)


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Iterate over the lines of a table, which end with newlines, carriage returns, or both."""
    lines = text_lines(path, encoding, newlines=True)
    head = next(lines, "")
    if "\r" in head.rstrip("\r"):
        return chain.from_iterable(line.removesuffix("\r").split("\r") for line in chain([head], lines))
    return chain([head], lines)


def _csv_rows(path: Path, columns: Mapping[str, str], encoding: str, quote: str) -> Iterator[tuple[Any, ...]]:
    reader = _reader(path, encoding, quote)
    row_start, multiline, num_lines = 1, list[int](), 0  # num_lines: lines of all multiline rows
    try:
        head: list[str] = next(reader, [])
        indices = _column_indices(path, columns, head)
        row_start, empty = reader.line_num + 1, 0
        for row in reader:
            if not row:
                empty, row_start = empty + 1, reader.line_num + 1
                continue
            yield from [(None,) * len(indices)] * empty  # empty lines are empty rows, except at the end
            empty = 0
            if len(row) > len(head):
                raise BadInput(f"{path}: line {reader.line_num}: expected {len(head)} columns, got {len(row)}")
            if reader.line_num > row_start:
                multiline.append(row_start)
                num_lines += reader.line_num - row_start + 1
            row_start = reader.line_num + 1
            yield tuple((row[i] or None) if i is not None and i < len(row) else None for i in indices)
    except csv.Error as error:
        if "new-line character" in str(error):
            raise BadInput(
                f"{path}: line {reader.line_num}: expected carriage returns at the ends of lines alone, or in quoted "
                "cells; got one in a cell without quotes"
            ) from None
        end = f" in line {reader.line_num}" if reader.line_num > row_start else ""
        hint = "if quotation marks are part of the texts, double them or pass --quote none"
        raise BadInput(f"{_not_a_table(f'{path}: line {row_start}', error)}{end}; {hint}") from None
    if multiline and columns:
        row_count = "1 row has" if len(multiline) == 1 else f"{len(multiline):,} rows have"
        note(
            f"{path}: {row_count} line breaks in quoted cells, {num_lines:,} lines in all, "
            f"the first in line {multiline[0]}; if quotation marks are part of the texts, pass --quote none"
        )


def _json_rows(path: Path, columns: Mapping[str, str], encoding: str, quote: str) -> Iterator[tuple[Any, ...]]:
    objects = _json_objects(path, encoding)
    head = list(islice(objects, HEAD_ROWS))
    _column_indices(path, columns, _keys(head))
    for row in chain(head, objects):
        yield tuple(row.get(name) for name in columns.values())


def _json_objects(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    lines = ((i, line) for i, line in enumerate(text_lines(path, encoding, newlines=True), 1) if line.strip())
    first = next(lines, (1, ""))
    if path.suffix.lower() in (".json", "") and first[1].lstrip().startswith("["):
        return _listed_objects(path, encoding)
    return (_object(path, i, line) for i, line in chain([first], lines) if line)


def _listed_objects(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    """Iterate over the objects of a JSON list, as pandas writes them."""
    try:
        objects = parsed(read_text(path, encoding))
    except ValueError as error:
        raise _not_a_table(str(path), error) from None
    for i, item in enumerate(objects, 1):
        if not isinstance(item, dict):
            raise BadInput(f"{path}: row {i}: expected a list of JSON objects, got {item!r:.40}")
        yield item


def _keys(objects: Iterable[dict[str, Any]]) -> list[str]:
    """Return the keys of all objects, in order of first appearance."""
    return list(dict.fromkeys(chain.from_iterable(objects)))


def json_keys(line: str) -> list[str] | None:
    """Return the keys of the JSON object, or list of objects, in a line; None if it is something else."""
    try:
        value: Any = parsed(line) if line.startswith(("{", "[")) else None
    except ValueError:
        return None
    objects: list[Any] = value if isinstance(value, list) else [value]
    return _keys(objects) if all(isinstance(item, dict) for item in objects) else None


def _object(path: Path, i: int, line: str) -> dict[str, Any]:
    try:
        value = parsed(line)
    except ValueError as error:
        raise _not_a_table(f"{path}: line {i}", error) from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: line {i}: expected a JSON object in each line, got {line:.40}")
    return value


def _parquet_rows(path: Path, columns: Mapping[str, str], encoding: str, quote: str) -> Iterator[tuple[Any, ...]]:
    table, start = _scan_parquet(path), 0
    try:
        _column_indices(path, columns, table.collect_schema().names())
        while len(part := table.slice(start, SLICE_ROWS).select(name for name in columns.values() if name).collect()):
            values = part.to_dict(as_series=False)
            missing = [None] * len(part)
            yield from zip(*(values.get(name, missing) for name in columns.values()), strict=True)
            start += len(part)
    except UNREADABLE as error:
        raise _not_a_table(str(path), error) from None


def _check_memory(path: Path) -> None:
    """Check that a Parquet table fits into memory: a few bytes of it may stand for billions of equal numbers."""
    table = _scan_parquet(path)
    cells = int(table.select(pl.len()).collect().item()) * len(table.collect_schema())
    if cells * CELL_BYTES > (memory := _memory()):
        raise BadInput(
            f"{path}: expected a table that fits into {memory:,} bytes of memory, got {cells:,} cells of at least "
            f"{CELL_BYTES} bytes"
        )


def _memory() -> int:
    """Return the bytes of memory of this machine; infinitely many where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def _scan_parquet(path: Path) -> pl.LazyFrame:
    try:
        with opened(path) as file:
            check_pages(file)
            table = pl.scan_parquet(path.absolute(), glob=False)
            table.collect_schema()
            return table
    except UNREADABLE as error:
        raise _not_a_table(str(path), error) from None


def _not_a_table(where: str, error: Exception) -> BadInput:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return BadInput(f"{where}: expected a table, got a file that cannot be read as one: {reason:.200}")


def _column_indices(path: Source, columns: Mapping[str, str], names: Sequence[str]) -> list[int | None]:
    for option, name in columns.items():
        if name:
            check_column(path, names, name, option)
    return [names.index(name) if name else None for name in columns.values()]


def check_column(path: Source, names: Sequence[str], name: str, option: str) -> None:
    """Check that a table has a column.

    Args:
        path: path of the table, for error messages.
        names: column names of the table.
        name: name of the column.
        option: option that names the column, for error messages.

    Raises:
        BadInput: if the column is missing or its name occurs several times.
    """
    if not any(names):
        raise BadInput(f"{path}: {option}: expected a table whose columns have names; got none")
    if name not in names:
        hint = "; for lines of text, omit -" if path == STDIN else ""
        raise BadInput(f"{path}: {option}: expected one of the columns {listed(names)}; got {name!r}{hint}")
    if list(names).count(name) > 1 or f"{name}_duplicated_0" in names:  # polars renames duplicates so
        raise BadInput(f"{path}: {option}: expected one column named {name!r}, got several")
