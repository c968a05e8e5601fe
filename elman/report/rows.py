"""Writes rows of predictions as a table for the terminal, CSV, TSV, JSON, JSON lines or Parquet."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from elman.errors import BadInput
from elman.io.files import check_new, write_new
from elman.report import tables

Row = dict[str, Any]
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
            f"--out {out}: expected a name that ends with {', '.join(ENDINGS)}, or --format; got one that ends with "
            f"{suffix}"
        )
    return format or suffix_format or "csv"


def write(rows: Iterable[Row], format: str, out: Path | None) -> None:
    """Write rows to standard output, each as soon as it is available, or atomically to a file.

    Args:
        rows: the rows, as values by column name; all have the same columns.
        format: the format that `format_of` returns.
        out: the file to write; None for standard output.
    """
    if out is None and format == "table":
        tables.console().print(_table(rows))
        return
    if out is not None and format == "parquet":
        write_new(out, _parquet(rows), "--out ")
        return
    lines = _FORMATS[format](rows)
    if out is not None:
        write_new(out, "".join(lines), "--out ")
        return
    for line in lines:
        sys.stdout.write(line)
        sys.stdout.flush()


def _table(rows: Iterable[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for at, row in enumerate(rows):
        for name, value in row.items() if at == 0 else ():
            table.add_column(name.replace("_", " "), justify="right" if isinstance(value, int | float) else "left")
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


def _table_text(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the table for the terminal as text, with unlimited width."""
    text = io.StringIO()
    tables.console(file=text, width=1 << 16).print(_table(rows))
    yield text.getvalue()


def _separated(rows: Iterable[Row], separator: str) -> Iterator[str]:
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    yield _line(first, separator)
    for row in chain([first], rows):
        yield _line(row.values(), separator)


def _line(values: Iterable[Any], separator: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerow(values)
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
    "table": _table_text,
    "csv": partial(_separated, separator=","),
    "tsv": partial(_separated, separator="\t"),
    "json": _json,
    "jsonl": _jsonl,
}
