"""`elman train --config`: YAML, TOML and JSON, and the config.json of a run, which repeats it."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from elman.io.run_folder import open_run
from elman.tasks.registry import TASKS
from tests.small import SMALL, Command
from tests.test_bad_input import put, refused
from tests.test_output_options import TABLE, give

OPTIONS = {"hidden": 12, "embed": 8, "batch": 4, "bptt": 10, "epochs": 0.2, "lr": 0.01, "flow-every": 0}


def written(path: Path, values: Any) -> Path:
    """A file of options, in the format that its name says."""
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    path.write_text({".toml": lines, ".json": json.dumps(values)}.get(path.suffix, yaml.safe_dump(values)))
    return path


def printed(elman: Command, *arguments: Any) -> dict[str, Any]:
    """What --print-config says."""
    said = elman("train", *arguments, "--print-config")
    assert (said.code, said.err) == (0, "")
    found: dict[str, Any] = yaml.safe_load(said.out)
    return found


@pytest.mark.parametrize("name", ["c.yaml", "c.yml", "c.toml", "c.json"])
def test_a_file_of_options(elman: Command, file: Path, tmp_path: Path, name: str) -> None:
    values = {"task": "text", "data": str(file), "out": str(tmp_path / "run"), **OPTIONS}
    said = elman("train", "text", "--config", written(tmp_path / name, values))
    assert said.code == 0, said.err
    config = open_run(tmp_path / "run").config
    expected = {key.replace("-", "_"): value for key, value in OPTIONS.items()}
    assert (config["options"] | config["training"]).items() >= expected.items()
    assert config["data"]["files"] == [str(file)]


def test_the_command_line_overrides_the_file(elman: Command, file: Path, tmp_path: Path) -> None:
    config = written(tmp_path / "c.yaml", {"data": ["other.txt"], "hidden": 12, "layers": 2, "optimizer": "sgd"})
    found = printed(elman, "text", file, "--config", config, "--hidden", 9, "--out", "mine")
    assert {"data": [str(file)], "hidden": 9, "layers": 2, "optimizer": "sgd", "out": "mine"}.items() <= found.items()
    # Also by a value that is the default.
    assert printed(elman, "text", "--config", config, "--layers", 1)["layers"] == 1


def test_defaults_are_those_of_the_task(elman: Command) -> None:
    found = printed(elman, "forecast", "a.csv")
    assert (found["lr"], found["patience"], found["schedule"], found["minutes"]) == (6e-3, 4, "plateau", 60.0)
    assert printed(elman, "forecast", "a.csv", "--epochs", 3)["schedule"] == "cosine"


@pytest.mark.parametrize("task", ["text", "forecast", "music", "translate", "tag"])
def test_what_is_printed_can_be_read(elman: Command, tmp_path: Path, task: str) -> None:
    found = printed(elman, task, "a.csv", "--hidden", 9, "--epochs", 2)
    assert "out" not in found
    assert printed(elman, task, "--config", written(tmp_path / "c.yaml", found)) == found


def test_print_config_writes_nothing(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed(elman, "text", "no such file")
    assert list(tmp_path.iterdir()) == []


def test_options_of_several_values(elman: Command, tmp_path: Path) -> None:
    config = written(tmp_path / "c.yaml", {"covariates": ["a", "b"], "test": "t.csv", "validation": ["v.csv"]})
    found = printed(elman, "forecast", "--config", config)
    assert (found["covariates"], found["test"], found["validation"]) == ("a,b", ["t.csv"], ["v.csv"])
    assert printed(elman, "music", "--config", written(tmp_path / "d.yaml", {"as": "events"}))["as"] == "events"


def test_numbers_of_yaml(elman: Command, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("lr: 1e-3\nclip: 2\nflow-every: 3\ndata: 1e3a\n")
    config = printed(elman, "text", "--config", tmp_path / "c.yaml")
    assert (config["lr"], config["clip"], config["flow_every"], config["data"]) == (1e-3, 2.0, 3, ["1e3a"])


def test_the_config_of_a_run_repeats_it(elman: Command, trained: Path, tmp_path: Path) -> None:
    for i, source in enumerate((trained / "config.json", trained)):
        assert elman("train", "text", "--config", source, "--out", tmp_path / str(i)).code == 0
        old, new = open_run(trained).config, open_run(tmp_path / str(i)).config
        for key in ("data", "model", "options", "training", "scores"):
            assert old[key] == new[key]
        weights = [path / "model.safetensors" for path in (trained, tmp_path / str(i))]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_config_of_a_run_with_one_option_changed(elman: Command, trained: Path, tmp_path: Path) -> None:
    old = printed(elman, "text", "--config", trained)
    new = printed(elman, "text", "--config", trained, "--cell", "gru")
    assert new == old | {"cell": "gru"}
    assert (old["data"], old["epochs"], old["hidden"]) == (open_run(trained).config["data"]["files"], 3.0, 12)


def test_runs_of_earlier_versions(elman: Command, trained: Path, copied: Path) -> None:
    """The first had one file with its encoding, and fewer options of a training."""
    config = open_run(trained).config
    (source,) = config["data"]["files"]
    training = {name: config["training"][name] for name in ("epochs", "minutes", "optimizer", "schedule", "clip")}
    options = {name: value for name, value in config["options"].items() if name not in ("encoding", "layers")}
    put(copied / "config.json", data={"file": source, "encoding": "cp1252"}, options=options, training=training)
    found = printed(elman, "text", "--config", copied)
    # Without weight_decay, it was torch's default, which None is.
    assert found == printed(elman, "text", "--config", trained) | {"encoding": "cp1252", "weight_decay": None}
    put(copied / "config.json", data={"file": None, "encoding": "utf-8"})
    assert printed(elman, "text", "--config", copied)["data"] is None


def test_a_run_whose_data_are_gone(elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, file.read_text())
    assert elman("train", "text", "-", "--epochs", 0.1, "--out", tmp_path / "run", *SMALL).code == 0
    again = ("train", "text", "--config", tmp_path / "run")
    refused(
        elman(*again),
        "data: expected files, got a run that was trained in Python or on standard input; pass the files as DATA",
    )
    assert elman(*again, file, "--out", tmp_path / "again").code == 0


def test_a_config_on_standard_input(elman: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "hidden: 9")
    assert printed(elman, "text", "--config", "-")["hidden"] == 9


WRONG: list[tuple[str, Any, list[str]]] = [
    ("c.yaml", {"task": "image"}, ["c.yaml: task: expected text, got 'image'"]),
    ("c.yaml", {"hiden": 3}, ["c.yaml: hiden: unknown name, expected one of", "; did you mean hidden?"]),
    ("c.yaml", {"resume": "run"}, ["c.yaml: resume: unknown name, expected one of tokens,", "task, data, out"]),
    ("c.toml", {"hidden": 2.5}, ["c.toml: hidden: expected an integer of at least 1, got 2.5"]),
    ("c.json", {"hidden": None}, ["c.json: hidden: expected an integer of at least 1, got None"]),
    ("c.json", {"layers": True}, ["c.json: layers: expected an integer from 1 to 1000, got True"]),
    ("c.yaml", {"cell": "ltsm"}, ["c.yaml: cell: expected one of rnn, gru", "; did you mean lstm?"]),
    ("c.yaml", {"epochs": -1}, ["c.yaml: epochs: expected a number greater than 0, got -1"]),
    ("c.yaml", {"clip": math.inf}, ["c.yaml: clip: expected a number of at least 0, got inf"]),
    ("c.yaml", {"lr": "0.1"}, ["c.yaml: lr: expected a number greater than 0 and at most 1e+37, got '0.1'"]),
    ("c.yaml", {"encoding": 8}, ["c.yaml: encoding: expected a text, got 8"]),
    ("c.yaml", {"data": [1]}, ["c.yaml: data[0]: expected a path, got 1"]),
    ("c.yaml", {"out": 1}, ["c.yaml: out: expected a path, got 1"]),
    ("c.yaml", {"options": {"hiden": 3}, "training": {}}, ["c.yaml: hiden: unknown name, expected one of"]),
    (
        "c.yaml",
        {"options": {"hidden": "3"}, "training": {}},
        ["c.yaml: hidden: expected an integer of at least 1, got '3'"],
    ),
    ("c.yaml", {"options": {}, "training": {"epochs": 0}}, ["c.yaml: epochs: expected a number greater than 0, got 0"]),
    (
        "c.txt",
        {},
        ["c.txt: expected a file name that ends with .yaml, .yml, .toml, .json, or a run folder"],
    ),
]


@pytest.mark.sample(8)
@pytest.mark.parametrize(("name", "values", "parts"), WRONG, ids=lambda value: str(value)[:40])
def test_a_file_with_what_cannot_be(
    elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, values: Any, parts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(elman("train", "text", "--config", written(Path(name), values)), "elman: --config c", *parts)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.yaml", "a: [", "expected valid YAML: while parsing"),
        ("c.yaml", "!!python/object/apply:os.system ['touch evil']", "could not determine a constructor"),
        ("c.yaml", "- a", "expected a mapping of option names to values, got list"),
        ("c.yaml", "1: a", "expected a mapping of option names to values, got dict"),
        ("c.yaml", "data: &a [b]\ntest: *a", "expected valid YAML: expected no alias"),
        ("c.yaml", "a: " + "[" * 5000, "expected options and values, got lists nested too deeply"),
        ("c.toml", "a = " + "[" * 5000, "expected options and values, got lists nested too deeply"),
        ("c.json", "[" * 100_000, "expected valid JSON: lists or objects are nested too deeply"),
        ("c.toml", "a = ", "expected valid TOML: Invalid value (at end of document)"),
        ("c.json", "{", "expected valid JSON: Expecting property name"),
        ("c.yaml", "", "expected a text, got an empty file"),
    ],
)
def test_a_file_that_cannot_be_read(elman: Command, tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    refused(elman("train", "text", "--config", tmp_path / name), f"{tmp_path / name}: ", says)
    refused(
        elman("train", "text", "--config", tmp_path / "none.yaml"), "none.yaml: expected a file, but it does not exist"
    )


def test_with_resume_it_cannot_be(elman: Command, trained: Path) -> None:
    refused(elman("train", "text", "--resume", trained, "--config", trained), "--config: cannot be changed with")


def test_a_run_of_another_task(elman: Command, tmp_path: Path, trained: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    refused(
        elman("train", "classify", tmp_path / "t.csv", "--config", trained),
        f"--config {trained / 'config.json'}: task: expected classify, got 'text'",
    )


def test_paths_of_a_moved_run(elman: Command, trained: Path, tmp_path: Path) -> None:
    """Its config.json may lie anywhere."""
    shutil.copy(trained / "config.json", tmp_path / "mine.json")
    assert printed(elman, "text", "--config", tmp_path / "mine.json") == printed(elman, "text", "--config", trained)


@pytest.mark.parametrize("task", TASKS)
def test_the_schema_takes_what_the_command_takes(elman: Command, task: str) -> None:
    """The configuration with all defaults is valid; wrong values, names and keys are not."""
    said = elman("train", task, "--print-schema")
    assert (said.code, said.err) == (0, "")
    schema = json.loads(said.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema).is_valid
    data = [] if task in ("text", "image", "caption") else ["x.csv"]
    config = printed(elman, task, *data)
    assert valid(config)
    assert schema["properties"].keys() - {"out"} == config.keys()
    for wrong in ({"hidden": 0}, {"dropout": 1.5}, {"lr": 0}, {"cell": "ltsm"}, {"task": "other"}, {"hiden": 3}):
        assert not valid(config | wrong), wrong
    assert valid(config | {"validation": ["a.csv", "b.csv"]}) == ("validation" in config)
    assert valid(config | {"covariates": ["a", "b"]}) == ("covariates" in config)
