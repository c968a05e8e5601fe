"""elman train classify, from texts to a run, and the run put to use."""

import io
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch

from elman import cells, tasks
from elman.cli import run
from elman.data.examples import Example
from elman.data.tables import rows as rows_of
from elman.data.words import split_words, vocabulary
from elman.engine import EXECUTORS
from elman.errors import BadInput
from elman.io.run_folder import open_run
from elman.tasks import classify
from elman.tasks.classify.model import TextClassifier, Texts
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.classify.task import TASK, ClassifyCodec
from tests.small import Command, files
from tests.test_bad_input import refused

SMALL = ["--hidden", "8", "--embed", "8", "--batch", "8", "--epochs", "8", "--lr", "0.02", "--dropout", "0.1"]
THINGS = [f"th{i}ng" for i in range(20)]


def texts() -> tuple[list[str], list[str]]:
    """Texts of one to nine words, and whether they praise, 80."""
    ends = [
        (f"{' and '.join(THINGS[i % 7 :: 5][: i % 5])} {word}".strip()) for i in range(20) for word in ("ok", "bad")
    ]
    praise = [text.replace("ok", "good") for text in ends]
    found = [f"{text} {i % 11}" for i, text in enumerate(ends[1::2] + praise[::2] + ends[1::2] + praise[::2])]
    return found, ["pos" if "good" in text else "neg" for text in found]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file for each label, in an encoding of its own."""
    folder = tmp_path_factory.mktemp("lines")
    found = [folder / "caf.pos", folder / "caf.neg"]
    for path in found:
        own = [f"caf\u00e9 {text}" for text, label in zip(*texts(), strict=True) if label == path.suffix[1:]]
        path.write_bytes("\n".join(own).encode("cp1252"))
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "reviews.csv"
    pl.DataFrame(dict(zip(("text", "label"), texts(), strict=True))).write_csv(path)
    return path


@pytest.fixture(scope="module")
def trained(lines: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    command = ["train", "classify", *map(str, lines), "--encoding", "cp1252", "--out", str(path), "--flow-every", "9"]
    assert run([*command, *SMALL]) == 0
    return path


def test_a_run_of_texts(elman: Command, trained: Path, lines: list[Path], tmp_path: Path) -> None:
    assert {"codec.json", "split.csv", "baseline.safetensors", "confusion.png", "flow.csv"} <= files(trained)
    config = json.loads((trained / "config.json").read_text())
    own, baseline = config["scores"].items()
    assert (own[0], baseline[0]) == ("bidirectional GRU 8 and naive Bayes", "TF-IDF and logistic regression")
    assert list(own[1]) == list(baseline[1]) == ["accuracy", "macro_f1", "nats_per_text"]
    assert own[1]["accuracy"] > 0.9
    said = elman("evaluate", trained, *lines)
    assert said.code == 0
    assert "TF-IDF" in said.out
    assert elman("evaluate", trained, lines[0]).code == 0  # one label alone
    for command in (["info"], ["report"], ["flow"], ["draw", "--out", tmp_path / "net.svg"]):
        assert elman(command[0], trained, *command[1:]).code == 0
    assert "caf\u00e9" in (trained / "report.html").read_text()


def test_texts_are_predicted(elman: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = elman("predict", trained, "caf\u00e9 good", "th1ng bad 3", "--format", "jsonl")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [(row["input"], row["label"]) for row in rows] == [("caf\u00e9 good", "pos"), ("th1ng bad 3", "neg")]
    assert all(0.5 <= row["probability"] <= 1 for row in rows)
    monkeypatch.setattr("sys.stdin", io.StringIO("Caf\u00e9 GOOD\nwhat nobody knows\n"))
    lines = elman("predict", trained, "--format", "csv").out.splitlines()
    assert lines[0] == "input,label,probability"
    assert lines[1].startswith("Caf\u00e9 GOOD,pos,")
    marked = io.TextIOWrapper(io.BytesIO("\ufeffcaf\u00e9\n\n \ngood\n".encode("utf-16")), "utf-8")
    monkeypatch.setattr("sys.stdin", marked)
    said = elman("predict", trained, "--format", "csv", "--encoding", "utf-16")
    assert [line.split(",")[0] for line in said.out.splitlines()] == ["input", "caf\u00e9", "good"]
    refused(
        elman("predict", trained, "good", " "), "input 2: predict: expected a text, got ' '; pass --skip-bad to skip it"
    )
    said = elman("predict", trained, "good", " ", "bad", "--skip-bad", "--format", "csv")
    assert (said.code, len(said.out.splitlines())) == (0, 3)
    assert said.err == "input 2: predict: expected a text, got ' '; skipped\n"


def test_other_names_of_columns(elman: Command, trained: Path, tmp_path: Path) -> None:
    frame = pl.DataFrame(dict(zip(("said", "stars"), texts(), strict=True)))
    table, missing = tmp_path / "t.csv", "--text: expected one of the columns said, stars; got 'text'"
    frame.write_csv(table, separator=";")
    refused(elman("evaluate", trained, table), missing)
    by_name = elman("evaluate", trained, table, "--text", "said", "--label", "stars")
    assert by_name.code == 0
    found = tasks.load(trained)
    scores = found.evaluate(frame, text="said", label="stars")
    assert scores == found.evaluate(frame.to_dict(as_series=False), text="said", label="stars")
    assert scores == found.evaluate(texts())
    assert f"{next(iter(scores.values()))['accuracy']:.4f}" in by_name.out
    refused(elman("evaluate", trained, table, "--time", "said"), "--time: not an option of the task of")
    with pytest.raises(TypeError, match=r"^hidden: expected one of text, label, "):
        found.evaluate(texts(), hidden=3)
    with pytest.raises(BadInput, match=f"^DataFrame: {missing[2:]}"):
        found.evaluate(frame)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(dict(zip(("said", "stars"), texts(), strict=True))).with_row_index("id")
    path = tmp_path / f"t{suffix}"
    match suffix:
        case ".parquet":
            frame.write_parquet(path)
        case ".jsonl":
            frame.write_ndjson(path)
        case _:
            frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    found = list(TASK.read([path], ClassifyOptions(text="said", label="stars")))
    assert [(example.input, example.target) for example in found] == list(zip(*texts(), strict=True))
    assert found[4].name == f"{path}: row 5"


def test_what_is_the_same_is_on_one_side() -> None:
    many, labels = texts()
    parts = TASK.split_data((many * 3, labels * 3), ClassifyOptions(), 0)
    inputs = [{example.input for example in part} for part in parts]
    assert len(set.union(*inputs)) == sum(map(len, inputs)) == len(set(many))


def test_words_are_those_of_the_training_alone() -> None:
    many, labels = texts()
    data = ([f"{text} only{i}" for i, text in enumerate(many)], labels)
    codec, parts, *_ = TASK.prepare(data, ClassifyOptions(), 0).details
    assert codec.words == vocabulary(split_words(example.input) for example in parts.train)
    assert sum(word.startswith("only") for word in codec.words) == len(parts.train) == 64
    assert {word for term in codec.terms for word in term.split()} == set(codec.words)


def test_resuming_changes_nothing(elman: Command, table: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    more = ["--dropout", "0.3", "--schedule", "constant"]
    assert elman("train", "classify", table, "--out", whole, *SMALL, *more, "--epochs", "4").code == 0
    assert elman("train", "classify", table, "--out", parted, *SMALL, *more, "--epochs", "1.5").code == 0
    assert elman("train", "classify", "--resume", parted, "--epochs", "4").code == 0
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()
    scores = [json.loads((path / "config.json").read_text())["scores"] for path in (whole, parted)]
    assert scores[0] == scores[1]


CODEC = ClassifyCodec(["a", "b", "c"], ["one", "two", "three"], pieces=50, terms={})


def batch(*texts: str) -> Texts:
    return CODEC.collate([CODEC.encode(Example(text, "b"))[0] for text in texts])


@pytest.mark.parametrize("cell", cells.REGISTRY)
def test_every_cell_reads_each_text_as_if_alone(cell: str) -> None:
    model = TextClassifier(3, 50, 3, cell, embed=4, hidden=5, layers=2, dropout=0.5, word_dropout=0.5, bptt=3).eval()
    model.recurrent.executor = "loop"
    texts = ["one two, three two one", "four", "three four one"]
    alone = torch.cat([model(batch(text)) for text in texts])
    torch.testing.assert_close(model(batch(*texts)), alone)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_stands_behind_the_end_is_not_read(executor: str) -> None:
    model = TextClassifier(3, 50, 3, "lstm", embed=4, hidden=5, smoothing=0.5)
    model.recurrent.executor = executor
    given = batch("one three one", "two")
    other = given.words.clone()
    assert other[1:, 1].tolist() == [0, 0]
    other[1:, 1] = 3
    spelling = given.spelling.clone()
    spelling[1:, 1] = 1
    changed = given._replace(words=other, spelling=spelling)
    assert torch.equal(model(given), model(changed))
    loss, count, _ = model.loss(given)
    loss.backward()
    grad = model.words.weight.grad
    assert grad is not None
    assert not grad[0].any()
    assert grad[1:].any(1).all()
    assert count == 2
    assert loss != model.eval().loss(given)[0]  # which is smoothed in training alone


def test_words_that_are_not_known_are_not_all_alike() -> None:
    model = TextClassifier(3, 50, 3, embed=4, hidden=5).eval()
    assert not torch.equal(model(batch("five")), model(batch("fortytwo")))
    assert batch("five").words.tolist() == [[0]]


ROWS = "text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(*texts(), strict=True))
BAD: list[tuple[str, str, list[str]]] = [
    ("no column", ROWS.replace("text,", "body,", 1), ["--text", "one of the columns body, label", "got 'text'"]),
    ("empty text", ROWS + ",pos\n", ["row 81: expected a text, got none", "--skip-bad"]),
    ("blank text", ROWS + '"  ",pos\n', ["row 81: expected a text, got an empty one", "--skip-bad"]),
    ("empty label", ROWS + "fine,\n", ["row 81: expected a label, got none", "--skip-bad"]),
    ("numbers", "text,label\n1,a\n2,b\n", ["--text: expected texts in 'text', got only numbers, the first 1"]),
    ("nan", "text,label\na,1.5\nb,NaN\nc,2\n", ["row 2: expected a label, got 'NaN'"]),
    ("twice", "text,label,label\na,b,c\n", ["--label: expected one column named 'label', got several"]),
    ("no names", "\n\n", ["--text: expected a table whose columns have names; got none"]),
    ("long", "text\tlabel\na\tb\tc\n", ["line 2: expected 2 columns, got 3"]),
    ("nothing", "text,label\n", ["expected at least one row"]),
    ("few", "text,label\ngood,1\nbad,0\n", ["a label with at least 3 different examples"]),
    ("one label", ROWS.replace(",neg", ",pos"), ["at least two different labels", "one, 'pos'"]),
]


@pytest.mark.parametrize(("data", "parts"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_wrong_tables(elman: Command, tmp_path: Path, data: str, parts: list[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text(data)
    refused(elman("train", "classify", path, "--out", tmp_path / "run", *SMALL), *parts)
    assert files(tmp_path) == {"t.csv"}


LINES = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in zip(*texts(), strict=True))
BAD_LINES: list[tuple[str, list[str]]] = [
    ('{"text": "a\\ud800", "label": "pos"}', ["row 81: expected text", "invalid character: '\\ud800'", "--skip-bad"]),
    ('{"text": "a", "label": "\\udce9"}', ["row 81: expected UTF-8, got byte 0xe9", "--skip-bad"]),
    ("[" * 100_000, ["line 81: expected a table", "nested too deeply"]),
    ('{"text": "a" "label"}', ["line 81: expected a table", "Expecting ',' delimiter at column 14"]),
]


@pytest.mark.parametrize(("line", "parts"), BAD_LINES, ids=["half", "byte", "deep", "no comma"])
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_wrong_lines(elman: Command, tmp_path: Path, line: str, parts: list[str], suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_text(f"{LINES}{line}\n")
    refused(elman("train", "classify", path, "--out", tmp_path / "run", *SMALL), *parts)
    assert files(tmp_path) == {path.name}


def test_texts_that_are_none(elman: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(elman("predict", trained, "caf\udce9"), "input 1:", "expected UTF-8, got byte 0xe9", "--skip-bad")
    for errors in ("surrogateescape", "strict"):
        lines = io.TextIOWrapper(io.BytesIO(b"fine\ncaf\xe9 good\n"), "utf-8", errors)
        monkeypatch.setattr("sys.stdin", lines)
        refused(elman("predict", trained), "expected UTF-8, got byte 0xe9")


def test_tabs_in_any_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text\tlabel\na, b\tc\n")
    assert [(one.input, one.target) for one in TASK.read([path], ClassifyOptions())] == [("a, b", "c")]


def test_what_is_bad_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text(ROWS + ",pos\nfine,\n")
    assert len(list(TASK.read([path], ClassifyOptions(skip_bad=True)))) == 80
    assert "skipped 2 unusable examples" in capsys.readouterr().err


def test_wrong_labels(elman: Command, table: Path, tmp_path: Path, trained: Path, lines: list[Path]) -> None:
    out = ["--out", tmp_path / "run", *SMALL]
    for part in ("--validation", "--test"):
        other = tmp_path / "other.csv"
        other.write_text("text,label\nso,so\n")
        refused(
            elman("train", "classify", table, part, other, *out),
            "row 1",
            "expected a label of the training data",
            "'so'",
        )
    refused(elman("train", "classify", *lines, *out), "expected UTF-8, got byte 0xe9 at offset 3", "--encoding")
    refused(elman("evaluate", trained, *lines, "--encoding", "utf-8"), "0xe9")
    refused(elman("evaluate", trained, other), "expected a label of the training data, neg, pos; got 'so'")
    refused(elman("flow", trained, other), "got 'so'")
    refused(elman("train", "classify", tmp_path / "none.csv", *out), "none.csv", "does not exist")
    refused(elman("train", "classify", *out), "expected DATA")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_in_python(tmp_path: Path) -> None:
    found = classify.fit(
        texts(), tmp_path / "run", hidden=8, embed=8, epochs=8, lr=0.02, dropout=0.1, batch=8, cell="lstm"
    )
    assert next(iter(found.evaluate(texts()).values()))["accuracy"] > 0.9
    assert [row["label"] for row in found.predict(["good", "bad"])] == ["pos", "neg"]
    assert [row["label"] for row in found.predict("good")] == ["pos"]
    with pytest.raises(
        ValueError, match=r"^elman.tasks.classify.fit: word_dropout: expected a number from 0 to 1, got"
    ):
        classify.fit(texts(), tmp_path / "other", word_dropout=2)


def test_parts_of_their_own_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As frames, as lists, as files; a run of these cannot be read again, and says so."""
    given, labels = texts()
    frame = pl.DataFrame({"text": given, "label": labels})
    file = tmp_path / "test.csv"
    frame[:6].write_csv(file)
    found = classify.fit(
        frame, tmp_path / "run", validation=(given[:4], labels[:4]), test=file, hidden=8, embed=8, epochs=1
    )
    said = capsys.readouterr().err
    assert "4 of the 4 texts for validation are also in the training part" in said
    data = found.run.config["data"]
    assert [data[part] for part in ("train", "validation", "test")] == [len(given), 4, 6]
    assert found.run.config["options"]["test"] == [str(file)]
    assert found.run.config["options"]["validation"] is None
    assert run(["train", "classify", "--resume", str(found.run.path), "--epochs", "2"]) == 2
    assert "expected data in files, got a run that was trained in Python" in capsys.readouterr().err


def test_predictions_replace_nothing(elman: Command, trained: Path, tmp_path: Path) -> None:
    for place in (trained / "config.json", tmp_path / "mine.csv"):
        place.touch()
        before = place.read_bytes()
        refused(elman("predict", trained, "good", "--out", place), f"--out {place}: expected a new name")
        assert place.read_bytes() == before
    refused(elman("predict", trained, "good", "--out", tmp_path), "expected the name of a file, got a folder")
    refused(elman("predict", trained, "good", "--out", tmp_path / "no" / "x.csv"), "does not exist; create it first")
    assert elman("predict", trained, "good", "--out", tmp_path / "new.jsonl").code == 0
    assert json.loads((tmp_path / "new.jsonl").read_text())["label"] == "pos"


def test_a_file_to_predict_is_read(elman: Command, trained: Path, table: Path, lines: list[Path]) -> None:
    said = elman("predict", trained, table, "caf\u00e9 good", "--format", "jsonl")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["input"] for row in rows] == [*texts()[0], "caf\u00e9 good"]
    assert rows == tasks.load(trained).predict([*texts()[0], "caf\u00e9 good"])
    said = elman("predict", trained, lines[0], "--encoding", "cp1252", "--format", "csv")
    assert said.out.splitlines()[1].startswith("caf\u00e9 ")
    refused(elman("predict", trained, table, "--text", "said"), "--text: expected one of the columns text, label")


def test_a_file_to_predict_needs_no_labels(elman: Command, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("text\ngood\nbad\n")
    assert elman("predict", trained, path, "--format", "csv").out.count("\n") == 3
    path.write_text("id\ttext\n1\tgood\n2\t\n")
    refused(elman("predict", trained, path), "t.tsv: row 2: expected a text, got none; pass --skip-bad")
    said = elman("predict", trained, path, "--skip-bad", "--format", "csv")
    assert (said.code, said.out.count("\n")) == (0, 2)
    assert "t.tsv: skipped 1 unusable example" in said.err
    found = tasks.load(trained)
    path.write_text("text\ngood\n")
    for named in (path, str(path), [path], [str(path)]):
        assert [row["input"] for row in found.predict(named)] == ["good"]
    assert [row["input"] for row in found.predict([str(path), "bad"])] == [str(path), "bad"]


@pytest.mark.parametrize("name", ["none.csv", "data/none.jsonl", "none.TXT"])
def test_a_file_that_is_not_there_is_no_text(elman: Command, trained: Path, tmp_path: Path, name: str) -> None:
    refused(
        elman("predict", trained, tmp_path / name),
        "expected a text or a file, got the name of a file that does not exist",
    )
    refused(elman("predict", trained, tmp_path), "expected a text or a file, got a folder")
    assert elman("predict", trained, f"see {name}", "word " * 200).code == 0


@pytest.mark.parametrize("baselines", [True, False])
def test_a_run_that_was_interrupted_says_how_to_go_on(
    elman: Command, trained: Path, table: Path, tmp_path: Path, baselines: bool
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    open_run(run).update(ended=None)
    if not baselines:
        (run / "baseline.safetensors").unlink()
    said = elman("evaluate", run, table)
    assert said.code == 0
    assert f"to resume: elman train classify --resume {run}" in said.err
    assert ("TF-IDF" in said.out) == baselines
    assert "GRU" in said.out
    open_run(run).update(ended={"steps": 1, "seconds": 1.0})
    said = elman("evaluate", run, table)
    assert (said.code, said.err == "") == ((0, True) if baselines else (2, False))


def test_columns_are_quoted_where_they_need_it(elman: Command, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("date ,my label,text\n" + "1,2,3\n" * 9)
    refused(elman("train", "classify", path), "--label: expected one of the columns 'date ', 'my label', text; got")
    path.write_text(",".join(f"column{i}" for i in range(99)) + "\n")
    refused(elman("train", "classify", path), "column0, column1, ", "column20 and 78 more; got 'text'")


def test_empty_lines_at_the_end_of_texts_are_none(elman: Command, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text("good good\nbad\n\n \n")
    rows = elman("predict", trained, path, "--format", "csv").out.splitlines()
    assert [row.split(",")[0] for row in rows] == ["input", "good good", "bad"]
    path.write_text("good good\n\nbad\n")
    assert "line 2: expected a text" in elman("predict", trained, path).err


def test_a_carriage_return_in_a_cell_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"text,label\none,a\ntwo\rparts,b\n")
    with pytest.raises(BadInput, match="line 3: expected carriage returns at the ends of lines alone"):
        list(rows_of(path, {"--text": "text"}))
