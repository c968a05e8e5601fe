"""--json, --quiet and --verbose; "-" for standard input and standard output; shell completion."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from elman.cli import run
from elman.io.run_folder import open_run
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
    monkeypatch.setattr("elman.tasks.text.task.TextTask.evaluate", lambda *_: {"LSTM": {"perplexity": float("inf")}})
    assert json.loads(elman("evaluate", trained, "x", "--json").out)["scores"] == {"LSTM": {"perplexity": None}}


def test_info_as_json(elman: Command, trained: Path, copied: Path) -> None:
    found = json.loads(elman("info", trained, "--json").out)
    assert found["files"].pop("model.safetensors") == (trained / "model.safetensors").stat().st_size
    assert ".lock" not in found.pop("files")
    assert found == {"run": str(trained), **open_run(trained).config, "resume": None}
    open_run(copied).update(ended=None)
    resume = json.loads(elman("info", copied, "--json").out)["resume"]
    assert resume == f"elman train text --resume {copied}"


def test_flow_as_json(elman: Command, trained: Path, tmp_path: Path) -> None:
    command = ("flow", trained, "--steps", 10, "--out", tmp_path / "flow")
    said, table = elman(*command, "--json"), elman(*command).out
    found = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert found["batch"].startswith("10 steps of 16 pieces of")
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
    refused(elman("-q", "evaluate", tmp_path / "run", tmp_path / "no"), "nothing of that name")
    assert "left out" in elman("generate", tmp_path / "run", "--prompt", "theΩ", "--length", 1).err, (
        "once, not for ever"
    )


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


def test_validation_on_standard_input(
    elman: Command, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, TABLE)
    train = ("train", "classify", classifier.parent / "table.csv", "--validation", "-", "--out", tmp_path / "run")
    assert elman(*train, *TINY).code == 0
    config = open_run(tmp_path / "run").config
    assert (config["data"]["files"], config["options"]["validation"]) == (None, None)
    assert config["data"]["validation"] == 24


def test_standard_output_as_a_file(elman: Command, trained: Path, classifier: Path) -> None:
    how = ("--seed", 1, "--length", 9)
    assert elman("generate", trained, *how, "--out", "-").out == elman("generate", trained, *how).out
    rows = ("predict", classifier, "the gate", "--format", "jsonl")
    assert elman(*rows, "--out", "-").out == elman(*rows).out != ""


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
