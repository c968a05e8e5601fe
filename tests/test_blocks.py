"""Texts and tables that are read in blocks are what they are when read at once."""

import codecs
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from elman.data import disk_list, stored_text, tables, tokenizers
from elman.data.stored_text import StoredText
from elman.data.token_kinds import Kind
from elman.errors import BadInput
from elman.io import files, text_encoding
from elman.tasks.tag import data as tag_data
from elman.tasks.tag.options import TagOptions
from elman.tasks.text import corpus
from tests.test_bad_input import TEXTS
from tests.test_text import ENGLISH

TEXT = (ENGLISH + "\u2028 \t\r\n\x85a\r\r\n \n\n  b\u3000\N{GRINNING FACE}c ") * 3


@pytest.fixture(params=[2, 3, 7, 64])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes are read at once."""
    monkeypatch.setattr(text_encoding, "BLOCK", request.param)
    return int(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "text"


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_a_text_in_blocks_is_whole(kind: Kind, block: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "_BLOCK", 5)
    monkeypatch.setattr(tokenizers, "_AT_ONCE", 2)
    monkeypatch.setattr(disk_list, "MEMORY", 0)
    path.write_bytes(codecs.BOM_UTF8 + TEXT.encode())
    made = corpus.prepare(corpus.read(path, "utf-8"), "text", kind, 300)
    cut, end = len(TEXT) * 8 // 10, len(TEXT) * 9 // 10
    monkeypatch.undo()
    whole = tokenizers.fit(kind, TEXT[:cut], 300)
    assert made.tokenizer.to_str() == whole.to_str()
    assert isinstance(made.train, np.memmap)
    assert made.train.tolist() == whole.encode(TEXT[:cut]).ids
    assert made.validation.ids.tolist() == whole.encode(TEXT[cut:end]).ids
    assert made.test.ids.tolist() == whole.encode(TEXT[end:]).ids
    assert (made.characters, made.sha256) == (len(TEXT), {"sha256": hashlib.sha256(TEXT.encode()).hexdigest()})
    own = tokenizers.token_bytes(whole)[made.validation.ids]
    first = whole.decode(whole.encode(TEXT[cut:end]).ids[:1])
    assert made.validation.characters == end - cut - len(first)
    assert made.validation.unknown == (own[1:] == 0).sum()
    assert made.validation.unknown_bytes == len(TEXT[cut:end].encode()) - own.sum()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.sampled_from("a \t\n\r\u2028\u00e9\N{GRINNING FACE}"), min_size=1, max_size=60),
    size=st.integers(1, 9),
)
def test_pieces_are_cut_where_nothing_reaches_across(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "_BLOCK", size)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    found = list(tokenizers.blocks(pieces))
    assert "".join(found) == text
    assert found == list(tokenizers.blocks(text))
    assert all(len(one) >= size and not one[-1].isspace() for one in found[:-1])
    assert all(one[0].isspace() for one in found[1:])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("ab\n\r\x0b\x1c\u2028\x85"), min_size=1, max_size=40), size=st.integers(1, 5))
def test_lines_are_those_of_the_whole(text: str, size: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoding, "BLOCK", size)
    path.write_bytes(text.encode())
    plain = io.StringIO(text, newline=None).read()
    assert list(files.text_lines(path)) == plain.removesuffix("\n").split("\n")
    assert list(files.text_lines(path, newlines=True)) == text.removesuffix("\n").split("\n")
    assert files.read_text(path) == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "shift_jis", "gb18030"])
def test_encodings_whose_characters_are_cut(encoding: str, block: int, path: Path) -> None:
    text = "a\u00e9\u00fc\r\n" * 9 if encoding == "cp1252" else "a\u65e5\u672c\u8a9e\r\nb" * 9
    path.write_bytes(text.encode(encoding))
    assert files.read_text(path, encoding) == text


WRONG = [data for _, data, _ in TEXTS if data] + [
    b"please " * 9 + b"\xc3",  # ends within a character
    b"\xe6\x97" + b"please",
    b"please stay \xf0\x9f\x98home",
    b"please\x00stay\xff",
]


@pytest.mark.parametrize("data", WRONG)
def test_what_is_wrong_is_told_as_of_the_whole(data: bytes, block: int, path: Path) -> None:
    path.write_bytes(data)
    told = []
    for size in (block, 1 << 20):
        text_encoding.BLOCK = size
        try:
            told.append(files.read_text(path))
        except BadInput as error:
            told.append(str(error))
    assert told[0] == told[1]


def test_the_offset_is_that_in_the_file(block: int, path: Path) -> None:
    path.write_bytes("日本語".encode("shift_jis") * 9 + b"\xff!")
    with pytest.raises(BadInput, match="SHIFT_JIS, got byte 0xff at offset 54;"):
        files.read_text(path, "shift_jis")
    path.write_bytes(codecs.BOM_UTF8 + b"please \xff")
    for encoding in ("utf-8", "utf-8-sig"):
        with pytest.raises(BadInput, match="got byte 0xff at offset 10;"):
            files.read_text(path, encoding)


def test_what_another_program_writes_is_stored(path: Path, block: int) -> None:
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("please\nstay",))
    writer.start()
    stored = StoredText(files.text_blocks(path))
    writer.join()
    path.unlink()
    assert ["".join(stored), "".join(stored)] == ["please\nstay"] * 2
    assert [list(stored.lines()), list(stored.lines())] == [["please", "stay"]] * 2


@given(
    pieces=st.lists(st.text("a\u00e9\n", max_size=5), max_size=6),
    begin=st.integers(0, 20),
    length=st.integers(0, 20),
    block=st.integers(1, 7),
)
def test_parts_of_a_stored_text(pieces: list[str], begin: int, length: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(stored_text, "_MAX_PIECE", block)
        stored = StoredText(pieces)
    whole = "".join(pieces)
    assert (stored.characters, "".join(stored)) == (len(whole), whole)
    part = stored.part(begin, begin + length)
    assert "".join(part) == "".join(part) == whole[begin : begin + length]
    assert all(part)


def sentences(path: Path) -> object:
    tagged = path.with_suffix(".conll")
    tagged.write_text("# newdoc\na\tX\nb\tY\n\n# newdoc\na\tX\n\n" * 3)
    return list(tag_data.read([tagged], TagOptions()))


READINGS: dict[str, Callable[[Path], object]] = {
    "char": lambda path: corpus.prepare(corpus.read(path, "utf-8"), "text", "char", 0),
    "word": lambda path: corpus.prepare(corpus.read(path, "utf-8"), "text", "word", 0),
    "bpe": lambda path: corpus.prepare(corpus.read(path, "utf-8"), "text", "bpe", 300),
    "sentences": sentences,
}


@pytest.mark.parametrize("reading", READINGS)
def test_a_text_is_decoded_once(reading: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, calls = text_encoding.decoded, list[Any]()

    def counted(*arguments: Any) -> Iterator[str]:
        calls.append(arguments)
        return decoded(*arguments)

    monkeypatch.setattr(files, "decoded", counted)
    path.write_text(ENGLISH)
    READINGS[reading](path)
    assert len(calls) == 1


FRAME = pl.DataFrame({"id": [1, 2, 3], "said": ['a, "b"', "c\nd\r\n\u2028e", None], "stars": ["\u00e9", "01", "x"]})
NAMES = {"--text": "said", "--label": "stars"}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_are_those_of_the_table(suffix: str, block: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SLICE_ROWS", 2)
    monkeypatch.setattr(tables, "HEAD_ROWS", 1)
    path = path.with_suffix(suffix)
    match suffix:
        case ".parquet":
            FRAME.write_parquet(path)
        case ".jsonl":
            FRAME.write_ndjson(path)
        case _:
            FRAME.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    assert list(tables.rows(path, NAMES)) == FRAME.select("said", "stars").rows()
    with pytest.raises(BadInput, match=f"{path}: --path: expected one of the columns id, said, stars; got 'path'"):
        list(tables.rows(path, NAMES | {"--path": "path"}))


TABLES: list[tuple[str, bytes, Any]] = [
    (".csv", b"said,stars\na,1,2\n", "line 2: expected 2 columns, got 3"),
    (
        ".csv",
        b'said,stars\na,1\nb,"2\n',
        "line 3: expected a table, got a file that cannot be read as one: unexpected end",
    ),
    (".csv", b"said,stars\n", "expected at least one row, got an empty table"),
    (".csv", b"", "expected a text, got an empty file"),
    (".csv", b"said,stars\na\n\nb,2\n", [("a", None), (None, None), ("b", "2")]),
    (".csv", b"said,stars\r\na,1\r\n", [("a", "1")]),
    (".csv", b"said,stars\na,1\n\n\n", [("a", "1")]),
    (".jsonl", b'{"said": "a", "stars": 1}\n\n{"said": "b"}', [("a", 1), ("b", None)]),
    (
        ".jsonl",
        b'{"said": "a", "stars": 1}\n{"said"',
        "line 2: expected a table, got a file that cannot be read as one",
    ),
    (".csv", b'said,stars\na,1\n"b,2\nc,3\n', "line 3: .* unexpected end of data in line 4; .*--quote none"),
    (".csv", b'said,stars\n"a,1\nb,2\n"c" d,3\n', "line 2: .* in line 4; if quotation marks .*--quote none"),
    (".csv", b'said,stars\n"a\nb",1\n5" x,2\n', [("a\nb", "1"), ('5" x', "2")]),
    (".tsv", b'said\tstars\n"a\t1\nb "c"\t2\n"d"\t3\n', [('"a', "1"), ('b "c"', "2"), ('"d"', "3")]),
    (".csv", b'said\tstars\n"a\t1\nb\t2\n', [('"a', "1"), ("b", "2")]),
    (".tsv", b"said\tstars\na\t1\t2\n", "line 2: expected 2 columns, got 3"),
    (".jsonl", b'["a"]\n', "line 1: expected a JSON object"),
    (".json", b'[{"said": "a", "stars": 1},\n {"said": "b"}]', [("a", 1), ("b", None)]),
    (".json", b'[{"said": "a"}, 5]', "row 2: expected a list of JSON objects, got 5"),
    (".parquet", b"PAR1 no table", "expected a table, got a file that cannot be read as one"),
]


@pytest.mark.parametrize(("suffix", "data", "expected"), TABLES)
def test_rows_that_are_odd(suffix: str, data: bytes, expected: Any, path: Path) -> None:
    path = path.with_suffix(suffix)
    path.write_bytes(data)
    if isinstance(expected, list):
        assert list(tables.rows(path, NAMES)) == expected
        assert tables.read_table(path).select("said", "stars").rows() == expected
    else:
        with pytest.raises(BadInput, match=expected) as caught:
            list(tables.rows(path, NAMES))
        assert "\n" not in str(caught.value)
        with pytest.raises(BadInput, match=expected):
            tables.read_table(path)
    with pytest.raises(BadInput, match="does not exist"):
        list(tables.rows(path.with_name(f"other{suffix}"), NAMES))


QUOTED = 'said\tstars\n"a\tb"\t"1"\n"c ""d"""\t2\n'


def test_quotation_marks_as_asked_for(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tsv, csv = path.with_suffix(".tsv"), path.with_suffix(".csv")
    tsv.write_text(QUOTED)
    assert list(tables.rows(tsv, NAMES)) == list(tables.rows(tsv, NAMES, quote='"'))  # it could be nothing else
    assert list(tables.rows(tsv, NAMES, quote='"')) == [("a\tb", "1"), ('c "d"', "2")]
    assert tables.read_table(tsv, quote='"').rows() == [("a\tb", "1"), ('c "d"', "2")]
    csv.write_text("said,stars\n'a,b',1\n")
    assert list(tables.rows(csv, NAMES, quote="'")) == [("a,b", "1")]
    csv.write_text('said,stars\n"a,1\nb",2\n')
    assert list(tables.rows(csv, NAMES, quote="none")) == [('"a', "1"), ('b"', "2")]
    assert tables.read_table(csv, quote="none").rows() == [('"a', "1"), ('b"', "2")]
    capsys.readouterr()
    assert list(tables.rows(csv, NAMES)) == [("a,1\nb", "2")]
    assert capsys.readouterr().err == (
        f"{csv}: 1 row has line breaks in quoted cells, 2 lines in all, the first in line 2; if quotation marks are "
        "part of the texts, pass --quote none\n"
    )
    with pytest.raises(BadInput, match="--quote: expected one ASCII character, or none; got 'ab'"):
        list(tables.rows(csv, NAMES, quote="ab"))


def test_every_row_of_literal_tabs_is_there(path: Path) -> None:
    tsv = path.with_suffix(".tsv")
    tsv.write_text('said\tstars\n""\t1\n"all of it"\t2\n')
    assert list(tables.rows(tsv, NAMES)) == [('""', "1"), ('"all of it"', "2")]
    tsv.write_text(
        "said\tstars\n"
        + "".join(f"{chr(34) * (i % 7 == 0)}text {i}\t{i % 2}{chr(34) * (i % 9 == 0)}\n" for i in range(120))
    )
    assert len(list(tables.rows(tsv, NAMES))) == len(tables.read_table(tsv)) == 120
