"""Tables in files: CSV, TSV, JSON lines, Parquet.

`rows` reads one after the other, `read_table` all at once for tasks that need whole columns: series. Cells of CSV and
TSV are texts, as they are written.

CSV is streamed by Python's csv module. Streamed by polars, a table of 200 MB takes a quarter of the time, but 300 MB of
memory instead of 75; and polars refuses a quotation mark within a cell (5" tape), takes carriage returns within cells,
wants UTF-8, and does not say in which line something is wrong. Read whole, columns take less time and memory in polars:
`read_table` uses it, and asks the csv module for the line that is wrong.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from elman.data.examples import is_files
from elman.data.frames import Frame
from elman.data.validation import listed
from elman.errors import BadInput
from elman.io.files import STDIN, is_readable_again, opened, read_text, text_lines
from elman.io.json_fields import parsed
from elman.io.terminal import note

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")  # endings of their files
HEAD = 100  # rows of JSON among which a column is looked for
SLICE = 1 << 16  # rows of Parquet that are read at once
DOUBLED = re.compile(r'(?:^|\t)"(?:[^"\t]|"")*""(?:[^"\t]|"")*"\r?(?:\t|$)')  # a quoted cell with marks in it
SNIFFED = 20  # lines by which the separator is found
SEPARATORS = "\t;,"
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
LONGEST = 1 << 24  # characters of a cell; a quotation mark without its other would take all of the file


Source = Path | Frame  # of a table


def sources(data: Any) -> Sequence[Source]:
    """Of what a task was given: files, or a table that is there already."""
    return data if is_files(data) else [Frame(data)]


def read_table(path: Path, encoding: str = "utf-8", quote: str = "", decimal: str | None = None) -> pl.DataFrame:
    """A table, of the kind that the name of the file says.

    Args:
        path: of the file.
        encoding: of one that is a text.
        quote: as `rows` has it.
        decimal: separator of numbers, where that is known.

    Raises:
        BadInput: if it cannot be read, or is empty.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            with opened(path):
                table = pl.read_parquet(path.absolute(), glob=False)
        elif _kind(path) is _json:
            table = pl.DataFrame(list(_objects(path, encoding)), infer_schema_length=None)
        else:
            table = _delimited(path, encoding, quote, decimal)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise _no_table(str(path), error) from None
    if not len(table):
        raise BadInput(f"{path}: expected rows, got a table without any")
    return table


def _delimited(path: Path, encoding: str, quote: str, decimal: str | None) -> pl.DataFrame:
    """A table of CSV or TSV."""
    text = read_text(path, encoding)
    text = text.replace("\r\n", "\n")
    if "\r" in text.partition("\n")[0]:  # lines end with it
        text = text.replace("\r", "\n")
    text = text.strip("\n")
    separator = separator_of(path, text.split("\n", SNIFFED)[:SNIFFED], decimal)
    try:
        mark = quote_of(quote, separator, lambda: text.split("\n"))
        table = pl.read_csv(text.encode(), separator=separator, quote_char=mark, infer_schema=False)
        if breaks := text.count("\n") - len(table):
            note(
                f"{path}: quoted cells have {breaks:,} line breaks, so that {len(table) + breaks:,} lines are "
                f"{len(table):,} rows; where quotation marks are part of texts, pass --quote none"
            )
        return table
    except pl.exceptions.PolarsError:
        for _ in _separated(path, {}, encoding, quote):  # raises for the line that is wrong
            pass
        raise


def column(path: Path, table: pl.DataFrame, name: str, option: str) -> pl.Series:
    """A column of a table.

    Raises:
        BadInput: if there is none of that name.
    """
    check_column(path, table.columns, name, option)
    return table[name]


def rows(
    path: Source, columns: Mapping[str, str], encoding: str = "utf-8", quote: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Of every row, what stands in some columns; None where nothing does, and for a column named "".

    Args:
        path: of the file.
        columns: the names, by the option that names them.
        encoding: of the text.
        quote: the quotation mark of cells; "none": there is none; "": `"` in CSV, and none where tabs separate columns,
            unless some cells could be nothing but quoted ones.

    Raises:
        BadInput: if there is no such column, or the table cannot be read or is empty; when that is come to.
    """
    some = False
    for row in _framed(path, columns) if isinstance(path, Frame) else _kind(path)(path, columns, encoding, quote):
        some = True
        yield row
    if not some:
        raise BadInput(f"{path}: expected rows, got a table without any")


def names(path: Source, encoding: str = "utf-8", quote: str = "") -> list[str]:
    """The columns of a table.

    Raises:
        BadInput: if it cannot be read.
    """
    if isinstance(path, Frame):
        return path.names
    if _kind(path) is _parquet:
        return _scanned(path).collect_schema().names()
    if _kind(path) is _json:
        return _keys(islice(_objects(path, encoding), HEAD))
    return next(_reader(path, encoding, quote), [])


def separator_of(path: Path, lines: Sequence[str], decimal: str | None = None) -> str:
    """What stands between the columns.

    Of a .tsv tabs; else what parts the first lines into as many columns each, and most of them, where the first names
    the columns: tabs, semicolons or commas.

    Args:
        path: of the table.
        lines: the first ones.
        decimal: separator of numbers, where that is known.

    >>> separator_of(Path("a.csv"), ["date;wind, m/s", "2020-01-01;1,5", "2020-01-02;2,5"])
    ';'
    """
    if path.suffix.lower() == ".tsv":
        return "\t"
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    head = lines[0] if lines else ""
    if decimal == "," and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", head):  # one column, without a name
        return ";"
    plain = [line.replace("\r", " ") for line in lines]  # csv takes no carriage returns in cells without quotes
    counts = {one: [len(row) for row in csv.reader(plain, delimiter=one) if row] for one in SEPARATORS if one in head}
    even = {one: found[0] for one, found in counts.items() if len(set(found[:-1])) == 1}  # a last line may be cut
    if even:
        return max(even, key=even.__getitem__)  # of those alike, the first
    return next((one for one in ",;\t" if one in head), ";" if decimal == "," else ",")


def quote_of(quote: str, separator: str, lines: Callable[[], Iterable[str]]) -> str | None:
    """The quotation mark of a text, as `rows` has it, by what stands between columns; None: there is none.

    Args:
        quote: what was asked for.
        separator: what stands between columns.
        lines: all lines of the text, where they can be read again.

    Raises:
        BadInput: for what is no mark.
    """
    if quote == "none":
        return None
    if len(quote.encode()) > 1 or quote in (separator, "\n", "\r"):
        raise BadInput(f"--quote: expected one character of ASCII, or none; got {quote!r}")
    return quote or ('"' if separator != "\t" or _is_quoted(lines) else None)


def _is_quoted(lines: Callable[[], Iterable[str]]) -> bool:
    """Whether cells with tabs between them are quoted, as CSV's are.

    They are not, and every line is a row, unless all cells that begin with a quotation mark are whole quoted ones, and
    either marks in them are doubled, or lines alone would make no rows.
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


def _kind(path: Path) -> Callable[[Path, Mapping[str, str], str, str], Iterator[tuple[Any, ...]]]:
    suffix = path.suffix.lower()
    if suffix in WORKBOOKS:
        with opened(path):
            raise BadInput(f"{path}: expected CSV, TSV, JSON lines or Parquet, got a workbook; save its sheet as CSV")
    if suffix in (".jsonl", ".ndjson", ".json") or (path == STDIN and _begins_as_json(path)):
        return _json
    return _parquet if suffix == ".parquet" else _separated


def is_table(path: Path) -> bool:
    """Whether a file is a table, by the ending of its name; standard input is one."""
    return path.suffix.lower() in TABLES or path == STDIN


def _begins_as_json(path: Path) -> bool:
    with opened(path) as file:
        return file.read(HEAD).lstrip().startswith((b"{", b"["))


def _framed(frame: Frame, columns: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    _places(frame, columns, frame.names)
    missing = [None] * max(map(len, frame.columns.values()), default=0)
    found = [frame.columns.get(name, missing) for name in columns.values()]
    yield from zip(*found, strict=True)


def _reader(path: Path, encoding: str, quote: str) -> Any:
    """Of csv."""
    lines = _lines(path, encoding)
    first = list(islice(lines, SNIFFED))
    separator = separator_of(path, first)
    mark = quote_of(quote, separator, lambda: _lines(path, encoding) if is_readable_again(path) else ())
    ended = (f"{line}\n" for line in chain(first, lines))
    if mark is None:
        return csv.reader(ended, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(ended, delimiter=separator, quotechar=mark, strict=True)


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a table: they end with newlines, perhaps after carriage returns; or with these alone."""
    lines = text_lines(path, encoding, newlines=True)
    head = next(lines, "")
    if "\r" in head.rstrip("\r"):
        return chain.from_iterable(line.removesuffix("\r").split("\r") for line in chain([head], lines))
    return chain([head], lines)


def _separated(path: Path, columns: Mapping[str, str], encoding: str, quote: str) -> Iterator[tuple[Any, ...]]:
    reader = _reader(path, encoding, quote)
    begin, several, lines = 1, list[int](), 0  # the line in which a row begins; of rows with more than one, all lines
    try:
        head: list[str] = next(reader, [])
        at = _places(path, columns, head)
        begin, empty = reader.line_num + 1, 0
        for row in reader:
            if not row:
                empty, begin = empty + 1, reader.line_num + 1
                continue
            yield from [(None,) * len(at)] * empty  # lines at the end are not rows, others are rows without anything
            empty = 0
            if len(row) > len(head):
                raise BadInput(f"{path}: line {reader.line_num}: expected {len(head)} columns, got {len(row)}")
            if reader.line_num > begin:
                several.append(begin)
                lines += reader.line_num - begin + 1
            begin = reader.line_num + 1
            yield tuple((row[i] or None) if i is not None and i < len(row) else None for i in at)
    except csv.Error as error:
        if "new-line character" in str(error):
            raise BadInput(
                f"{path}: line {reader.line_num}: expected carriage returns at the ends of lines alone, or in quoted "
                "cells; got one in a cell without quotes"
            ) from None
        end = f" in line {reader.line_num}" if reader.line_num > begin else ""
        hint = "where quotation marks are part of texts, double them or pass --quote none"
        raise BadInput(f"{_no_table(f'{path}: line {begin}', error)}{end}; {hint}") from None
    if several and columns:
        many = "1 row has" if len(several) == 1 else f"{len(several):,} rows have"
        note(
            f"{path}: {many} line breaks in quoted cells, {lines:,} lines in all, the first in line {several[0]}; "
            "where quotation marks are part of texts, pass --quote none"
        )


def _json(path: Path, columns: Mapping[str, str], encoding: str, quote: str) -> Iterator[tuple[Any, ...]]:
    found = _objects(path, encoding)
    head = list(islice(found, HEAD))
    _places(path, columns, _keys(head))
    for row in chain(head, found):
        yield tuple(row.get(name) for name in columns.values())


def _objects(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    lines = ((i, line) for i, line in enumerate(text_lines(path, encoding, newlines=True), 1) if line.strip())
    first = next(lines, (1, ""))
    if path.suffix.lower() in (".json", "") and first[1].lstrip().startswith("["):
        return _listed_objects(path, encoding)
    return (_object(path, i, line) for i, line in chain([first], lines) if line)


def _listed_objects(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    """Those in one list, as pandas writes them."""
    try:
        found = parsed(read_text(path, encoding))
    except ValueError as error:
        raise _no_table(str(path), error) from None
    for i, one in enumerate(found, 1):
        if not isinstance(one, dict):
            raise BadInput(f"{path}: row {i}: expected a list of JSON objects, got {one!r:.40}")
        yield one


def _keys(found: Iterable[dict[str, Any]]) -> list[str]:
    """Of any of these, in order."""
    return list(dict.fromkeys(chain.from_iterable(found)))


def _object(path: Path, i: int, line: str) -> dict[str, Any]:
    try:
        found = parsed(line)
    except ValueError as error:
        raise _no_table(f"{path}: line {i}", error) from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: line {i}: expected a JSON object in each line, got {line:.40}")
    return found


def _parquet(path: Path, columns: Mapping[str, str], encoding: str, quote: str) -> Iterator[tuple[Any, ...]]:
    table, begin = _scanned(path), 0
    try:
        _places(path, columns, table.collect_schema().names())
        while len(some := table.slice(begin, SLICE).select(name for name in columns.values() if name).collect()):
            taken = some.to_dict(as_series=False)
            missing = [None] * len(some)
            yield from zip(*(taken.get(name, missing) for name in columns.values()), strict=True)
            begin += len(some)
    except pl.exceptions.PolarsError as error:
        raise _no_table(str(path), error) from None


def _scanned(path: Path) -> pl.LazyFrame:
    try:
        with opened(path):
            found = pl.scan_parquet(path.absolute(), glob=False)
            found.collect_schema()
            return found
    except pl.exceptions.PolarsError as error:
        raise _no_table(str(path), error) from None


def _no_table(where: str, error: Exception) -> BadInput:
    return BadInput(f"{where}: expected a table, got what cannot be read as one: {str(error).splitlines()[0]}")


def _places(path: Source, columns: Mapping[str, str], names: Sequence[str]) -> list[int | None]:
    for option, name in columns.items():
        if name:
            check_column(path, names, name, option)
    return [names.index(name) if name else None for name in columns.values()]


def check_column(path: Source, names: Sequence[str], name: str, option: str) -> None:
    """Whether a table has a column.

    Raises:
        BadInput: if it has not, or has several of this name.
    """
    if not any(names):
        raise BadInput(f"{path}: {option}: expected a table whose columns have names; got none")
    if name not in names:
        raise BadInput(f"{path}: {option}: expected one of the columns {listed(names)}; got {name!r}")
    if list(names).count(name) > 1 or f"{name}_duplicated_0" in names:  # as polars calls another of the same name
        raise BadInput(f"{path}: {option}: expected one column {name!r}, got several of this name")
