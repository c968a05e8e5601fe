"""Predictions in files: each ending has its format, or is refused; and texts on standard input."""

import io
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import polars as pl
import pytest

from elman.errors import BadInput
from elman.io.files import input_lines
from elman.report.rows import format_of, write

ROWS = [
    {"input": 'a "b"\tc', "label": "pos", "probability": 0.5},
    {"input": "d,\ne", "label": "neg", "probability": 1.0},
]


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.json", "p.jsonl", "p.NDJSON", "p.parquet", "p"])
def test_a_file_has_the_format_of_its_ending(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(iter([ROWS]), format_of(None, path), path)
    match path.suffix.lower():
        case ".parquet":
            assert pl.read_parquet(path).to_dicts() == ROWS
        case ".json":
            assert json.loads(path.read_text()) == ROWS
        case ".jsonl" | ".ndjson":
            assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS
        case suffix:
            assert pl.read_csv(path, separator="\t" if suffix == ".tsv" else ",").to_dicts() == ROWS


@pytest.mark.parametrize("format", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_no_rows_are_a_whole_file(tmp_path: Path, format: str) -> None:
    write(iter([]), format, tmp_path / "p")
    if format == "json":
        assert json.loads((tmp_path / "p").read_text()) == []
    assert (tmp_path / "p").exists()


def test_a_table_in_batches_has_one_header(tmp_path: Path) -> None:
    texts = [["a", "wider text"], [], ["b", "w" * 70], ["c"]]
    batches = [[{"input": text, "label": "pos", "share": 0.5} for text in batch] for batch in texts]
    write(batches, "table", tmp_path / "p")
    first, head, rule, *rows, last = (tmp_path / "p").read_text().split("\n")[:-1]
    assert (first, head.split(), rule.strip("\u2500 "), last) == ("", ["input", "label", "share"], "", "")
    assert [row.split()[-2:] for row in rows] == [["pos", "0.5"]] * 5
    assert [row.index("pos") for row in rows] == [15, 15, 75, 75, 65]  # a column is padded to 60 characters at most


def test_a_file_that_fails_halfway_is_not_written(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, object]]:
        yield ROWS[0]
        raise BadInput("no more")

    with pytest.raises(BadInput, match="no more"):
        write([rows()], "csv", tmp_path / "p.csv")
    assert not list(tmp_path.iterdir())


def test_a_table_in_a_file_is_the_table(tmp_path: Path) -> None:
    write(iter([[{"input": "word " * 60, "label": "pos"}]]), format_of("table", tmp_path / "p.txt"), tmp_path / "p.txt")
    head, _, row, *_ = (tmp_path / "p.txt").read_text().strip().splitlines()
    assert head.split() == ["input", "label"]
    assert row.split() == ["word"] * 60 + ["pos"]


@pytest.mark.parametrize(
    ("format", "name", "message"),
    [
        (None, "p.txt", r"--out .*p.txt: expected a file name that ends with .csv, .*, or --format; got one .* .txt"),
        (None, "p.xlsx", r"got one that ends with .xlsx"),
        ("csv", "p.parquet", r"p.parquet: expected a name for --format csv, got one that ends with .parquet"),
        ("json", "p.csv", r"p.csv: expected a name for --format json"),
        ("parquet", None, r"--format parquet: expected --out FILE, got none"),
    ],
)
def test_a_name_of_another_format_is_refused(tmp_path: Path, format: str | None, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        format_of(format, tmp_path / name if name else None)
    assert format_of("csv", tmp_path / "p.txt") == "csv"
    assert format_of("jsonl", tmp_path / "p.json") == "jsonl"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_standard_input_is_decoded(monkeypatch: pytest.MonkeyPatch, encoding: str, end: str) -> None:
    data = f"caf\u00e9{end}{end} two {end}".encode(encoding)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "ascii"))
    assert list(chain.from_iterable(input_lines(encoding.removesuffix("-sig")))) == ["caf\u00e9", "", " two "]


def test_standard_input_of_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("caf\u00e9\n".encode("cp1252")), "utf-8"))
    with pytest.raises(BadInput, match=r"standard input: expected UTF-8, got byte 0xe9 at offset 3; .*--encoding"):
        list(input_lines())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b""), "utf-8"))
    assert list(chain.from_iterable(input_lines())) == []
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeffone\n"))
    assert list(chain.from_iterable(input_lines())) == ["one"]
