"""A CSV file that grows by a row at a time during training and is continued by a resumed run."""

import csv
import io
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from elman.errors import BadInput
from elman.io.files import append_text, write_whole


class CsvTable:
    """A CSV file whose first column is the training step.

    Args:
        path: the file.
        columns: column names, "step" first.
        keep: last step to keep from an existing file. Later rows are dropped, since a resumed run writes them again.
    """

    def __init__(self, path: Path, columns: list[str], keep: int = 0) -> None:
        self._path, self._columns = path, columns
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, columns)
        writer.writeheader()
        writer.writerows(row for row in (read(path) if path.exists() else []) if int(row["step"]) <= keep)
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
        BadInput: if a row has no step.
    """
    with path.open(newline="") as file:
        text, end, _ = file.read().rstrip("\0").rpartition("\n")
    rows = [row for row in csv.DictReader(io.StringIO(text + end, newline="")) if None not in row.values()]
    for i, row in enumerate(rows, 1):
        if not re.fullmatch(r"\d+", row.get("step") or ""):
            received = repr(row["step"]) if "step" in row else f"the columns {', '.join(map(str, row))}"
            raise BadInput(f"{path}: row {i}: expected an integer in the column 'step', got {received:.60}")
    return rows
