"""Rows of predictions: a table to look at, CSV or JSON lines to go on with."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from elman.files import check_new, write_whole
from elman.report import tables

Row = dict[str, Any]


def format_of(format: str | None, out: Path | None) -> str:
    """How rows are written: as was asked for, or else as the name of the file says.

    Args:
        format: "table", "csv" or "jsonl"; None: a table to look at, CSV in a file, or JSON lines by its name.
        out: a file; None: standard output.

    Raises:
        BadInput: for a file that cannot be written.
    """
    if out is not None:
        check_new(out, "--out ")
        return format or ("jsonl" if out.suffix.lower() in (".jsonl", ".ndjson") else "csv")
    return format or "table"


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
    lines = _FORMATS[format](rows)
    if out is not None:
        write_whole(out, "".join(lines))
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


def _csv(rows: Iterable[Row]) -> Iterator[str]:
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    yield _line(first)
    for row in chain([first], rows):
        yield _line(row.values())


def _line(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _jsonl(rows: Iterable[Row]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


_FORMATS = {"table": _csv, "csv": _csv, "jsonl": _jsonl}
