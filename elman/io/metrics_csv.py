"""A CSV file that grows by a row at a time during training and is continued by a resumed run."""

import csv
import io
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from elman.errors import BadInput
from elman.io.files import append_text, read_bytes, write_whole

MAX_BYTES = 1 << 28  # of a table: about four million rows
MAX_CELL = 1000  # characters of a cell


class CsvTable:
    """A CSV file whose first column is the training step.

    Args:
        path: the file.
        columns: column names, "step" first.
        keep: last step to keep from an existing file. Later rows are dropped, since a resumed run writes them again.
    """

    def __init__(self, path: Path, columns: list[str], keep: int = 0) -> None:
        self._path, self._columns = path, columns
        rows = [row for row in (read(path) if path.exists() else []) if int(row["step"]) <= keep]
        if rows and list(rows[0]) != columns:
            raise BadInput(f"{path}: expected the columns {', '.join(columns)}; got {', '.join(rows[0])!s:.200}")
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, table.getvalue())

    def add(self, values: Mapping[str, int | float | str]) -> None:
        """Append a row and write it immediately. Floats are written with six significant digits."""
        row = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in values.items()}
        line = io.StringIO(newline="")
        csv.DictWriter(line, self._columns).writerow(row)
        append_text(self._path, line.getvalue())

    def sync(self) -> None:
        """Make sure that all rows are on the disk."""
        with suppress(FileNotFoundError), self._path.open("r+b") as file:
            os.fsync(file.fileno())


def read(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV table.

    An incomplete last row, as after a full disk, is dropped, and so are zeros at the end, as after a power loss.

    Raises:
        BadInput: if the file cannot be read, is no table or is too large, or if a row has no step.
    """
    limit = csv.field_size_limit(MAX_BYTES)  # larger cells are reported with their row below
    try:
        text, end, _ = read_bytes(path, MAX_BYTES).decode().rstrip("\0").rpartition("\n")
        rows = [row for row in csv.DictReader(io.StringIO(text + end, newline="")) if None not in row.values()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: expected a table of numbers: {error}") from None
    finally:
        csv.field_size_limit(limit)
    for i, row in enumerate(rows, 1):
        if None in row:
            raise BadInput(f"{path}: row {i}: expected {len(row) - 1} columns, got more")
        if (longest := max(map(len, row.values()))) > MAX_CELL:
            expected = f"cells of at most {MAX_CELL:,} characters"
            raise BadInput(f"{path}: row {i}: expected {expected}, got one of {longest:,}")
        if not re.fullmatch(r"[0-9]{1,18}", row.get("step") or ""):
            columns = " ".join(", ".join(map(str, row)).split())  # on one line
            received = repr(row["step"]) if "step" in row else f"the columns {columns}"
            raise BadInput(f"{path}: row {i}: expected an integer in the column 'step', got {received:.60}")
    return rows
