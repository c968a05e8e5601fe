"""Rows of predictions: a table to look at; CSV, TSV, JSON, JSON lines or Parquet to go on with."""

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
}  # of the names of files
ALSO = {(".json", "jsonl")}  # formats that files of another ending may have, as elman reads both


def format_of(format: str | None, out: Path | None) -> str:
    """How rows are written: as was asked for, or else as the name of the file says.

    Args:
        format: a name in `FORMATS`; None: by the ending of the file; of a name without one, CSV.
        out: a file; None: standard output, where a table to look at is the default.

    Raises:
        BadInput: for a file that cannot be written, or whose name says nothing of its format or another one.
    """
    if out is None:
        if format == "parquet":
            raise BadInput("--format parquet: expected --out FILE, got none")
        return format or "table"
    check_new(out, "--out ")
    ending = out.suffix.lower()
    own = ENDINGS.get(ending)
    if format and own and format != own and (ending, format) not in ALSO:
        raise BadInput(f"--out {out}: expected a name for --format {format}, got one that ends with {ending}")
    if not format and not own and ending:
        raise BadInput(
            f"--out {out}: expected a name that ends with {', '.join(ENDINGS)}, or --format; got one that ends with "
            f"{ending}"
        )
    return format or own or "csv"


def write(rows: Iterable[Row], format: str, out: Path | None) -> None:
    """Write rows, which have the same columns: to standard output as they come, to a file whole or not at all.

    Args:
        rows: name to value.
        format: as `format_of` has it.
        out: a file; None: standard output.
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


def _drawn(rows: Iterable[Row]) -> Iterator[str]:
    """The table to look at, for a file: as wide as it has to be."""
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
    """One list, with a row in each line."""
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
    "table": _drawn,
    "csv": partial(_separated, separator=","),
    "tsv": partial(_separated, separator="\t"),
    "json": _json,
    "jsonl": _jsonl,
}
