"""Writes rows of predictions as a table for the terminal, CSV, TSV, JSON, JSON lines or Parquet."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table

from elman.errors import BadInput
from elman.io.files import check_new, write_new
from elman.report import tables

Row = dict[str, Any]
MAX_WIDTH = 60  # maximum number of characters that the texts of a column are padded to
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}  # suffix to format
ALSO_ALLOWED = {(".json", "jsonl")}  # other accepted pairs of suffix and format, since elman reads both


def format_of(format: str | None, out: Path | None) -> str:
    """Return the output format, from the option or from the suffix of the file.

    Args:
        format: name of the format; None to use the suffix of the file, or CSV if it has none.
        out: the file to write; None for standard output, where the default format is "table".

    Raises:
        BadInput: if the file cannot be written, or if its suffix is unknown or contradicts the format.
    """
    if out is None:
        if format == "parquet":
            raise BadInput("--format parquet: expected --out FILE, got none")
        return format or "table"
    check_new(out, "--out ")
    suffix = out.suffix.lower()
    suffix_format = ENDINGS.get(suffix)
    if format and suffix_format and format != suffix_format and (suffix, format) not in ALSO_ALLOWED:
        raise BadInput(f"--out {out}: expected a name for --format {format}, got one that ends with {suffix}")
    if not format and not suffix_format and suffix:
        raise BadInput(
            f"--out {out}: expected a file name that ends with {', '.join(ENDINGS)}, or --format; got one that "
            "ends with "
            f"{suffix}"
        )
    return format or suffix_format or "csv"


def write(batches: Iterable[Iterable[Row]], format: str, out: Path | None) -> None:
    """Write rows to standard output, each batch as soon as it is available, or atomically to a file.

    Args:
        batches: batches of rows, which are values by column name; all have the same columns.
        format: the format that `format_of` returns.
        out: the file to write; None for standard output.
    """
    if out is None and format == "table":
        console = tables.console()
        for part in _table_parts(batches):
            console.print(part)
        return
    if out is not None and format == "parquet":
        write_new(out, [_parquet(chain.from_iterable(batches))], "--out ")
        return
    lines = _table_text(batches) if format == "table" else _FORMATS[format](chain.from_iterable(batches))
    if out is not None:
        write_new(out, lines, "--out ")
        return
    for line in lines:
        sys.stdout.write(line)
        sys.stdout.flush()


def _table_parts(batches: Iterable[Iterable[Row]]) -> Iterator[RenderableType]:
    """Yield the table for the terminal in parts, one for each batch, and an empty line around them.

    A column becomes wider when a batch needs it, up to `MAX_WIDTH`.
    """
    widths = dict[str, int]()
    for batch in batches:
        rows = [{name.replace("_", " "): value for name, value in row.items()} for row in batch]
        if not rows:
            continue
        if not widths:
            yield ""
        cells = [[in_cell(value, ", ") for value in row.values()] for row in rows]
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_header=not widths)
        for (name, value), *column in zip(rows[0].items(), *cells, strict=True):
            width = min(max(map(cell_len, (name, *column))), MAX_WIDTH)
            widths[name] = max(widths.get(name, 0), width)
            justify: Literal["left", "right"] = "right" if isinstance(value, int | float) else "left"
            table.add_column(name, justify=justify, min_width=widths[name])
        for row in cells:
            table.add_row(*row)
        yield Padding(table, (0, 0, 0, 1), expand=False)
    if widths:
        yield ""


def in_cell(value: Any, separator: str = ",") -> str:
    """Return a value as a text for people; those of a list are joined.

    >>> in_cell(0.123456), in_cell(["a", "b"])
    ('0.1235', 'a,b')
    """
    if isinstance(value, list):
        return separator.join(in_cell(element) for element in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table_text(batches: Iterable[Iterable[Row]]) -> Iterator[str]:
    """Yield the table for the terminal as text, with unlimited width."""
    for part in _table_parts(batches):
        text = io.StringIO()
        tables.console(file=text, width=1 << 16).print(part)
        yield text.getvalue()


def separated(rows: Iterable[Row], separator: str) -> Iterator[str]:
    """Yield the lines of a CSV table, its header first."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    yield _line(first, separator)
    for row in chain([first], rows):
        yield _line(row.values(), separator)


def _line(values: Iterable[Any], separator: str) -> str:
    text = io.StringIO()
    cells = (in_cell(value) if isinstance(value, list) else value for value in values)
    csv.writer(text, delimiter=separator, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _jsonl(rows: Iterable[Row]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _json(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a JSON list, with one row per line."""
    before = "[\n"
    for row in rows:
        yield f"{before}{json.dumps(row, ensure_ascii=False)}"
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _parquet(rows: Iterable[Row]) -> bytes:
    import polars as pl

    data = io.BytesIO()
    pl.DataFrame(list(rows), infer_schema_length=None).write_parquet(data)
    return data.getvalue()


_FORMATS: dict[str, Callable[[Iterable[Row]], Iterator[str]]] = {
    "csv": partial(separated, separator=","),
    "tsv": partial(separated, separator="\t"),
    "json": _json,
    "jsonl": _jsonl,
}
