"""Tables in files: CSV, TSV, JSON lines, Parquet."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from elman.errors import BadInput
from elman.files import read_bytes, read_text


def read_table(path: Path, encoding: str = "utf-8", as_text: bool = False) -> pl.DataFrame:
    """A table, of the kind that the name of the file says.

    Args:
        path: of the file.
        encoding: of one that is a text.
        as_text: take what stands in CSV and TSV as it is written, "007", never as numbers.

    Raises:
        BadInput: if it cannot be read, or is empty.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            read_bytes(path)
            table = pl.read_parquet(path)
        elif suffix in (".jsonl", ".ndjson"):
            table = pl.read_ndjson(read_text(path, encoding).encode())
        else:
            text = read_text(path, encoding).encode()
            separator = "\t" if suffix == ".tsv" else ","
            table = pl.read_csv(text, separator=separator, infer_schema=not as_text, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise BadInput(
            f"{path}: expected a table, got what cannot be read as one: {str(error).splitlines()[0]}"
        ) from None
    if not len(table):
        raise BadInput(f"{path}: expected rows, got a table without any")
    return table


def column(path: Path, table: pl.DataFrame, name: str, option: str) -> pl.Series:
    """A column of a table.

    Raises:
        BadInput: if there is none of that name.
    """
    if name not in table.columns:
        raise BadInput(f"{path}: {option}: expected one of the columns {_listed(table.columns)}; got {name!r}")
    return table[name]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)[:200]
