"""Parquet and Arrow files whose counts and offsets are wrong, of which polars and pyarrow would end the process."""

import io
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from elman.data.parquet_pages import check_pages
from elman.data.row_files import RowFiles
from elman.data.tables import read_table
from elman.errors import BadInput

TABLE = pl.DataFrame(
    {
        "text": [None if i % 7 == 0 else f"text {i % 50}" for i in range(500)],
        "number": [i / 3 for i in range(500)],
        "list": [[1, 2, 3][: i % 4] for i in range(500)],
        "struct": [{"x": i, "y": [str(i)]} for i in range(500)],
    }
)


@pytest.mark.parametrize("compression", ["zstd", "uncompressed"])
@pytest.mark.parametrize("statistics", [True, False])
def test_valid_files_of_polars(compression: Any, statistics: bool) -> None:
    for table, rows in product((TABLE, TABLE.head(0)), (99, 1000)):
        file = io.BytesIO()
        table.write_parquet(
            file, compression=compression, statistics=statistics, row_group_size=rows, data_page_size=500
        )
        check_pages(file)


def test_valid_files_of_pyarrow() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for version, dictionary, index in product(("1.0", "2.0"), (True, False), (True, False)):
        file = io.BytesIO()
        parquet.write_table(
            TABLE.to_arrow(), file, data_page_version=version, use_dictionary=dictionary, write_page_index=index,
            data_page_size=500, row_group_size=200,
        )  # fmt: skip
        check_pages(file)


def test_a_page_with_a_negative_count_is_refused(tmp_path: Path) -> None:
    """Of texts with missing ones, polars would reserve 2 ** 61 bytes, and end the process."""
    file = io.BytesIO()
    TABLE.select("text").write_parquet(file, compression="uncompressed")
    data, refused = file.getvalue(), list[bytes]()
    for i in range(len(data) // 2):
        damaged = data[:i] + b"\x09" + data[i + 1 :]  # -5, as a number of one byte
        try:
            check_pages(io.BytesIO(damaged))
        except ValueError as error:
            if "got -5" in str(error):
                refused.append(damaged)
    assert refused
    for number, damaged in enumerate(refused):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="expected counts and sizes of at least 0, got -5"):
            read_table(path)


def test_a_size_beyond_the_memory_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    file = io.BytesIO()
    table = pyarrow.table({"text": ["the same text"] * 1000})
    with pyarrow.ipc.new_file(file, table.schema, options=pyarrow.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    size, begin = (13 * 1000).to_bytes(8, "little"), b"\x28\xb5\x2f\xfd"  # of a buffer when it is decompressed
    assert file.getvalue().count(size + begin) == 1
    path = tmp_path / "x.arrow"
    path.write_bytes(file.getvalue().replace(size + begin, (2**60).to_bytes(8, "little") + begin))
    with pytest.raises(BadInput, match="expected row groups or record batches that fit in memory, got one that does"):
        list(RowFiles([path], {"--text": "text"}).read(0))


def test_an_offset_outside_of_an_arrow_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = io.BytesIO()
    pl.DataFrame({"text": ["a text of more than twelve characters"] * 3}).write_ipc(file, compression="uncompressed")
    data = file.getvalue()
    view = (37).to_bytes(4, "little") + b"a te"  # its length and beginning; then the numbers of a buffer and an offset
    assert data.count(view) == 3
    path = tmp_path / "x.arrow"
    path.write_bytes(data.replace(view + bytes(4), view + b"\xff\xff\xff\x0f"))
    rows = RowFiles([path], {"--text": "text"})
    with pytest.raises(BadInput, match="references buffer"):
        list(rows.read(0))
