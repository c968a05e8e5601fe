"""--json, --quiet and --verbose; "-" for standard input and standard output; shell completion."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elman.cli import run
from elman.io.run_folder import open_run
from elman.report.shown import Scores
from tests.small import SMALL, Command, text
from tests.test_bad_input import refused

TABLE = "text,label\n" + "".join(f"the {word} {i},{word}\n" for i in range(12) for word in ("state", "gate"))
TINY = ["--epochs", "1", "--hidden", "4", "--embed", "4"]


def give(monkeypatch: pytest.MonkeyPatch, data: str | bytes) -> None:
    """Give this on standard input."""
    data = data.encode() if isinstance(data, str) else data
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classify")
    (folder / "table.csv").write_text(TABLE)
    assert run(["train", "classify", str(folder / "table.csv"), "--out", str(folder / "run"), *TINY]) == 0
    return folder / "run"


def test_evaluate_as_json(elman: Command, trained: Path, file: Path) -> None:
    said = elman("evaluate", trained, file, "--json")
    found = json.loads(said.out)
    assert (said.code, said.err, said.out.count("\n")) == (0, "", 1)
    assert {name: found[name] for name in ("run", "task", "data")} == {
        "run": str(trained), "task": "text", "data": [str(file)]
    }  # fmt: skip
    assert found["scores"].keys() == open_run(trained).config["scores"].keys()
    assert f"{found['scores']['LSTM 12']['nats_per_token']:.4f}" in elman("evaluate", trained, file).out


def test_numbers_that_are_not_finite_are_null(elman: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "elman.tasks.text.task.TextTask.evaluate", lambda *_: Scores({"LSTM": {"perplexity": float("inf")}})
    )
    assert json.loads(elman("evaluate", trained, "x", "--json").out)["scores"] == {"LSTM": {"perplexity": None}}


def test_info_as_json(elman: Command, trained: Path, copied: Path) -> None:
    found = json.loads(elman("info", trained, "--json").out)
    assert found["files"].pop("model.safetensors") == (trained / "model.safetensors").stat().st_size
    assert ".lock" not in found.pop("files")
    assert found == {"run": str(trained), **open_run(trained).config, "resume": None}
    open_run(copied).update(ended=None)
    resume = json.loads(elman("info", copied, "--json").out)["resume"]
    assert resume == f"elman train text --resume {copied}"


@pytest.mark.slow
def test_flow_as_json(elman: Command, trained: Path, tmp_path: Path) -> None:
    command = ("flow", trained, "--steps", 10, "--out", tmp_path / "flow")
    said, table = elman(*command, "--json"), elman(*command).out
    found = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert found["batch"].startswith("a batch of 16 sequences of 10 steps of")
    assert found["findings"]
    for finding, line in zip(found["findings"], table.splitlines(), strict=False):
        assert line.startswith(f"{finding['kind']}: {finding['text']}.")
        assert all(remedy in line for remedy in finding["remedies"])
    assert [row["state"] for row in found["states"]] == ["recurrent.h_l0", "recurrent.c_l0"]
    for row in found["states"]:
        assert f"{row['rate']:.3f}" in table
    assert all(Path(path).exists() for path in found["plots"])


@pytest.mark.parametrize("flags", [["--quiet", "train", "text"], ["train", "text", "-q"], ["train", "-q", "text"]])
def test_quiet_prints_results_only(elman: Command, file: Path, tmp_path: Path, flags: list[str]) -> None:
    said = elman(*flags, file, "--epochs", 0.1, "--out", tmp_path / "run", *SMALL)
    assert (said.code, said.err) == (0, "")
    assert f"run: {tmp_path / 'run'}" in said.out
    refused(elman("-q", "evaluate", tmp_path / "run", tmp_path / "no"), "does not exist")
    assert "skipped" in elman("generate", tmp_path / "run", "--prompt", "theΩ", "--length", 1).err, "once, not for ever"


@pytest.mark.slow
def test_verbose_prints_a_line_for_each_validation(elman: Command, file: Path, tmp_path: Path) -> None:
    normal, verbose = (
        elman("train", "text", file, "--epochs", 4, "--out", tmp_path / name, *SMALL, *flags).err.count("validation ")
        for name, flags in (("a", []), ("b", ["--verbose"]))
    )
    assert verbose == 4 > normal


def test_verbose_shows_where_memory_was_short(elman: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.io.run_folder.open_run", lambda path: bytearray(2**62))
    assert "Traceback" not in elman("info", "run").err
    said = elman("info", "run", "--verbose")
    assert (said.code, said.err.startswith("Traceback")) == (1, True)
    assert said.err.splitlines()[-1].startswith("elman: not enough memory")


def test_quiet_and_verbose(elman: Command, trained: Path) -> None:
    refused(elman("-q", "info", trained, "-v"), "--verbose", "expected either --quiet or --verbose, got both")


def test_a_text_on_standard_input(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    path = tmp_path / "run"
    give(monkeypatch, text())
    assert elman("train", "text", "-", "--epochs", 1, "--out", path, *SMALL).code == 0
    assert open_run(path).config["data"]["files"] is None
    from_file = elman("evaluate", path, file).out
    give(monkeypatch, text())
    assert elman("evaluate", path, "-").out == from_file
    give(monkeypatch, text())
    assert elman("flow", path, "-", "--steps", 9).code == 0
    refused(elman("flow", path), "expected data in files, got a run that was trained in Python or on standard input")
    give(monkeypatch, text())
    assert elman("train", "text", "-", "--resume", path, "--epochs", 2).code == 0
    give(monkeypatch, b"\x00")
    refused(elman("evaluate", path, "-"), "-: expected a text, got a binary file")
    give(monkeypatch, "the gate")
    assert elman("generate", path, "--prompt", "-", "--length", 1).out.startswith("the gate")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_a_table_on_standard_input(
    elman: Command, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    rows = [dict(zip(("text", "label"), line.split(","), strict=True)) for line in TABLE.splitlines()[1:]]
    objects = "\n".join(map(json.dumps, rows))
    data = {"csv": TABLE, "jsonl": objects, "json": json.dumps(rows)}[form]
    for command in (["evaluate", "--json"], ["predict", "--format", "csv"]):
        give(monkeypatch, data)
        expected = elman(*command, classifier, classifier.parent / "table.csv").out
        said = elman(*command, classifier, "-")
        assert (said.code, said.out) == (0, expected.replace(str(classifier.parent / "table.csv"), "-"))
    give(monkeypatch, data)
    assert elman("train", "classify", "-", "--out", tmp_path / "run", *TINY).code == 0
    old, new = (open_run(path).config["data"] for path in (classifier, tmp_path / "run"))
    assert old["sha256"] == new["sha256"]
    assert new["files"] is None


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        (TABLE, "text, label"),
        (TABLE.replace(",", "\t"), "text, label"),
        (TABLE.replace(",", ";"), "text, label"),
        ('id,label,Full text,text\n1,gate,"a, b",c\n', "id, label, 'Full text', text"),
        ("text,label\n", "text, label"),
        ('id,text\n1,"first, second\nthird"\n2,a\n', "id, text"),
        ('{"text": "the gate", "id": 1}\n{"text": "the state"}\n', "text, id"),
        ('[{"text": "the gate"}, {"label": "state", "text": "the state"}]', "text, label"),
    ],
)
def test_a_table_as_lines_is_refused(
    elman: Command, classifier: Path, monkeypatch: pytest.MonkeyPatch, lines: str, columns: str
) -> None:
    give(monkeypatch, lines)
    expected = f"standard input: expected one text per line, got a table with the columns {columns}; to read its texts"
    refused(elman("predict", classifier), f"{expected}, pass -: elman predict {classifier} -")
    give(monkeypatch, lines)
    assert elman("predict", classifier, "-").code == 0 or lines == "text,label\n"


@pytest.mark.parametrize(
    "lines",
    [
        "text\nlabel\n",
        "text, label\nand more, of these\n",
        "text,label2\nfirst, second, third\nfourth\n",
        "a text,text\none,two\nthree,four\n",
        "my text;label\n1;2\n",
        "text\tand a tab\nmore\ttext\nmore\ttext\n",
        '{"message": "the gate", "id": 1}\n{"message": "the state"}\n',
        '{"text": "the gate"\n[1, 2]\n',
        "[text]\n[1]\n",
    ],
)
def test_texts_with_commas_are_no_table(
    elman: Command, classifier: Path, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    give(monkeypatch, lines)
    said = elman("predict", classifier, "--format", "jsonl")
    assert (said.code, [json.loads(row)["input"] for row in said.out.splitlines()]) == (0, lines.splitlines())


def test_validation_on_standard_input(
    elman: Command, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, TABLE)
    train = ("train", "classify", classifier.parent / "table.csv", "--validation", "-", "--out", tmp_path / "run")
    assert elman(*train, *TINY).code == 0
    config = open_run(tmp_path / "run").config
    assert (config["data"]["files"], config["options"]["validation"]) == (None, None)
    assert config["data"]["validation"] == 24


class Pipe(io.RawIOBase):
    """Standard input that gives one piece at each read, and notes at each read how many rows have been printed."""

    def __init__(self, pieces: list[bytes], count_rows: Callable[[], int]) -> None:
        self._pieces, self._count_rows, self.rows_at_read = iter(pieces), count_rows, list[int]()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.rows_at_read.append(self._count_rows())
        piece = next(self._pieces, b"")
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize(("format", "header"), [("jsonl", 0), ("csv", 1), ("table", 3)])
def test_lines_are_predicted_as_they_arrive(
    classifier: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], format: str, header: int
) -> None:
    out = list[str]()

    def count_rows() -> int:
        out.append(capsys.readouterr().out)
        return max("".join(out).count("\n") - header, 0)

    # Two lines at once, half a line, its end and one more line, a blank line, half a character, no newline at the end.
    pieces = [b"the state\nthe gate\n", b"a ga", b"te\r\na state\n", b"\n", b"caf\xc3", b"\xa9\nend"]
    pipe = Pipe(pieces, count_rows)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(pipe), "utf-8"))
    assert run(["predict", str(classifier), "--format", format]) == 0
    assert count_rows() == 6 + (format == "table")  # a table has an empty line after it
    assert pipe.rows_at_read == [0, 2, 2, 4, 4, 4, 5]
    lines = "".join(out).splitlines()
    texts = ["the state", "the gate", "a gate", "a state", "caf\u00e9", "end"]
    if format == "jsonl":
        assert [json.loads(line)["input"] for line in lines] == texts
    elif format == "csv":
        assert [line.split(",")[0] for line in lines] == ["input", *texts]
    else:
        assert [line.split("  ")[1].strip() for line in lines[3:-1]] == texts


def test_errors_in_lines_name_the_input(
    elman: Command, classifier: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    many = "".join(f"the gate {i}\n\n" for i in range(40))  # more than a batch
    give(monkeypatch, f"{many}\ud800\n".encode("utf-8", "surrogatepass"))
    refused(elman("predict", classifier), "standard input: line 81: expected UTF-8, got byte 0xed at offset")
    give(monkeypatch, many + many)
    said = elman("predict", classifier, "--format", "csv", "--out", tmp_path / "rows.csv")
    assert (said.code, said.out, len((tmp_path / "rows.csv").read_text().splitlines())) == (0, "", 81)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{many}\ud800\n"))
    said = elman("predict", classifier, "--format", "csv")
    assert said.code == 2
    assert said.err.startswith(
        "elman: standard input: line 81: predict: expected text, got an invalid character: '\\ud800'"
    )
    assert len(said.out.splitlines()) == 41  # the header and the lines before


def test_standard_output_as_a_file(elman: Command, trained: Path, classifier: Path) -> None:
    how = ("--seed", 1, "--length", 9)
    assert elman("generate", trained, *how, "--out", "-").out == elman("generate", trained, *how).out
    rows = ("predict", classifier, "the gate", "--format", "jsonl")
    assert elman(*rows, "--out", "-").out == elman(*rows).out != ""


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("elman tr", ["train"]),
        ("elman train text --cell layer", ["layer_norm_gru", "layer_norm_lstm"]),
        ("elman train text --opt", ["--optimizer"]),
    ],
)
def test_shell_completion(words: str, completions: list[str]) -> None:
    environment: dict[str, Any] = {
        "_ELMAN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), **os.environ
    }  # fmt: skip
    said = subprocess.run([sys.executable, "-m", "elman"], env=environment, capture_output=True, text=True, check=False)
    assert said.stdout.split() == completions
