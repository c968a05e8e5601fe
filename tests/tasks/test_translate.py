"""elman train translate, from pairs of sentences to a run, and the run put to use."""

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from elman import tasks
from elman.cli import run
from elman.errors import BadInput
from elman.tasks import translate
from tests.small import Command, files
from tests.test_bad_input import refused

WORDS = {"ein": "a", "hund": "dog", "rot": "red", "groß": "big", "sieht": "sees"}
PAIRS = [
    (" ".join(row), " ".join(WORDS[word] for word in row)) for n in (2, 3) for row in itertools.product(WORDS, repeat=n)
]
SMALL = ["--hidden", "16", "--embed", "12", "--batch", "8", "--lr", "0.03", "--beam", "2", "--dropout", "0.1"]
LONG = [*SMALL, "--tokens", "word", "--epochs", "12"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def parallel(table: Path) -> list[Path]:
    paths = [table.with_name(f"all.{language}") for language in ("de", "en")]
    for side, path in enumerate(paths):
        path.write_text("".join(f"{pair[side]}\n" for pair in PAIRS), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    assert run(["train", "translate", str(table), "--out", str(path), "--flow-every", "50", *LONG]) == 0
    return path


def test_pairs_as_lines_are_refused(
    elman: Command, trained: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(table.read_text("utf-8")))
    # A stream whose text is decoded gives one line at a time, and one line with a tab may be a sentence.
    assert elman("predict", trained).code == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(table.read_bytes()), "utf-8"))
    refused(
        elman("predict", trained),
        f"got tab-separated pairs of texts; to translate the first of each pair, pass -: elman predict {trained} -",
    )
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ein hund\tein\nein hund\n"), "utf-8"))
    assert elman("predict", trained).code == 0


def test_a_run_of_translations(elman: Command, trained: Path, parallel: list[Path], tmp_path: Path) -> None:
    assert {"codec.json", "split.csv", "baseline.safetensors", "attention.png", "flow.csv"} <= files(trained)
    config = json.loads((trained / "config.json").read_text())
    assert list(config["scores"]) == ["GRU 16, attention", "word by word (IBM model 1)"]
    assert [list(row) for row in config["scores"].values()] == [["bleu", "chrf"]] * 2
    said = elman("evaluate", trained, *parallel)
    assert said.code == 0
    assert "BLEU nrefs:1|case:mixed|eff:no|tok:13a|" in said.err
    for command in (["info"], ["report"], ["flow"], ["draw", "--out", tmp_path / "net.svg", "--gradients"]):
        assert elman(command[0], trained, *command[1:]).code == 0
    assert "translation" in (trained / "report.html").read_text()


def test_sentences_are_translated(elman: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = elman("predict", trained, "ein hund", "rot sieht ein", "--format", "jsonl").out
    assert [json.loads(line)["translation"] for line in rows.splitlines()] == ["a dog", "red sees a"]
    monkeypatch.setattr("sys.stdin", io.StringIO("hund groß\nkatze hund\n"))
    lines = elman("predict", trained, "--format", "csv").out.splitlines()
    assert lines[:2] == ["input,translation", "hund groß,dog big"]
    assert len(lines) == 3
    assert "<unk>" not in lines[2]


def test_resuming_changes_nothing(elman: Command, table: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    more = [*SMALL, "--tokens", "bpe", "--vocabulary", "280", "--schedule", "constant", "--epochs"]
    assert elman("train", "translate", table, "--out", whole, *more, "2").code == 0
    assert elman("train", "translate", table, "--out", parted, *more, "0.5").code == 0
    assert elman("train", "translate", "--resume", parted, "--epochs", "2").code == 0
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()


def test_parts_of_their_own(elman: Command, parallel: list[Path], tmp_path: Path) -> None:
    parts = [word for part in ("--validation", "--test") for path in parallel for word in (part, path)]
    said = elman("train", "translate", *parallel, *parts, "--out", tmp_path / "run", *SMALL, "--epochs", "0.1")
    assert said.code == 0
    assert "150 pairs for training, 150 for validation, 150 for test" in said.err


@pytest.mark.slow
def test_in_python(tmp_path: Path) -> None:
    found = translate.fit(PAIRS, tmp_path / "run", hidden=8, embed=8, epochs=0.2, tokens="char", layers=2, bptt=4)
    assert set(found.evaluate(PAIRS[:20])) == set(found.scores)
    assert [set(row) for row in found.predict(["ein hund"])] == [{"input", "translation"}]
    with pytest.raises(TypeError, match=r"^elman.tasks.translate.fit: attention: expected one of cell, hidden, "):
        translate.fit(PAIRS, tmp_path / "other", attention=1)  # type: ignore[call-arg]
    sides = tuple(map(list, zip(*PAIRS, strict=True)))
    assert found.evaluate(sides) == found.evaluate(PAIRS)
    for wrong, came in (
        ((sides[0], sides[1][1:]), "expected as many sentences as translations, got 150 and 149"),
        ([("a", "b"), ("a", "")], "pair 2: expected a text, got an empty one"),
        ({"a": "b"}, "expected files, pairs of texts"),
        (5, "expected files, pairs of texts, or two lists of these; got 5"),
        ([], "expected files, pairs of texts, or two lists of these; got an empty list"),
        ([(np.zeros((2, 2)), "a")], r"pair 1: expected a text, got array\(\[\[0., 0.\], \[0., 0.\]\]\)"),
        ([("a", "b"), ("a", "b", "c")], r"pair 2: expected two texts, got \('a', 'b', 'c'\)"),
        ([("a", "b"), ("a", 3)], "pair 2: expected a text, got 3"),
        ([("a", "b"), (None, "a")], "pair 2: expected a text, got none"),
        ([7], "pair 1: expected two texts, got 7"),
    ):
        with pytest.raises(BadInput, match=came):
            translate.fit(wrong, tmp_path / "other")


def test_wrong_pairs(elman: Command, parallel: list[Path], trained: Path, tmp_path: Path) -> None:
    de, en = parallel
    out = ["--out", tmp_path / "run", *SMALL, "--epochs", "0.1"]
    short = tmp_path / "short.en"
    short.write_text("".join(en.read_text().splitlines(True)[:-2]))
    refused(elman("train", "translate", de, short, *out), "expected the same number of lines in both, got 150 and 148")
    refused(elman("train", "translate", de, en, "--test", de, *out), "all.de: line 1: expected two texts, got 1")
    refused(elman("train", "translate", de, en, en, *out), "expected one file of pairs, or two", "got 3 files")
    refused(elman("train", "translate", *out), "DATA")
    refused(elman("train", "translate", de, tmp_path / "none", *out), "none: expected a file")
    holes = tmp_path / "holes.en"
    holes.write_text("".join("\n" if i in (6, 9) else line for i, line in enumerate(en.read_text().splitlines(True))))
    refused(elman("train", "translate", de, holes, *out), f"{holes}: line 7: expected two texts, got an empty second")
    refused(elman("train", "translate", holes, de, *out), f"{holes}: line 7: expected two texts, got an empty first")
    said = elman("train", "translate", de, holes, "--skip-bad", *out)
    assert said.code == 0
    assert "skipped 2" in said.err
    latin1 = tmp_path / "latin1.de"
    latin1.write_bytes(de.read_text(encoding="utf-8").encode("cp1252"))
    refused(elman("evaluate", trained, latin1, en), "latin1.de: expected UTF-8, got byte 0xdf", "--encoding cp1252")
    assert elman("evaluate", trained, latin1, en, "--encoding", "cp1252").code == 0
    three = tmp_path / "three.tsv"
    three.write_text("a\tb\tc\n")
    refused(elman("evaluate", trained, three), "line 1: expected two texts, got 3 between tabs")
    codec = trained.parent / "damaged"
    codec.mkdir()
    for name in ("config.json", "model.safetensors", "codec.json"):
        (codec / name).write_bytes((trained / name).read_bytes())
    kept = json.loads((codec / "codec.json").read_text())
    (codec / "codec.json").write_text(json.dumps(kept | {"target": {"tokenizer": {}, "before": ""}}))
    refused(elman("predict", codec, "ein"), "codec.json: expected the codec of `elman train translate`")


def test_a_file_to_predict_is_read(elman: Command, trained: Path, tmp_path: Path) -> None:
    path, rows = tmp_path / "one.de", tasks.load(trained).predict(["ein hund", "rot sieht ein"])
    path.write_text("ein hund\nrot sieht ein\n")
    assert tasks.load(trained).predict(path) == rows
    path.write_text("ein hund\ta dog\nrot sieht ein\tanything\n")
    said = elman("predict", trained, path, "--format", "jsonl")
    assert [json.loads(line) for line in said.out.splitlines()] == rows
    path.write_text("ein hund\n\nrot\n")
    refused(elman("predict", trained, path), "one.de: line 2: expected a sentence", "an empty line; pass --skip-bad")
    (tmp_path / "t.csv").write_text("text\nein hund\n")
    refused(elman("predict", trained, tmp_path / "t.csv"), "t.csv: expected one sentence per line, got a table")
