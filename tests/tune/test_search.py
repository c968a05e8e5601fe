"""Searches whose trials are not trained: states and counts, going on, what is refused."""

import csv
import json
import re
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import TPESampler

import elman as package
from elman.errors import BadInput, Failure
from elman.io.run_folder import lock_folder, open_run
from elman.report import trials as pictures
from elman.tune import study as studies
from elman.tune.trial import OutOfTime
from tests.small import Command, Said
from tests.small import files as files_in
from tests.test_bad_input import failed, refused
from tests.test_config import written
from tests.tune.fake import FakeTrials

SPACE = "lr=1e-3..1e-1:log hidden=4,8,16"


def of_size(number: int, values: dict[str, Any]) -> list[float]:
    """A loss that the options decide."""
    return [values["lr"] + values["hidden"] / (10 + epoch) for epoch in range(4)]


def table(study: Path) -> list[dict[str, str]]:
    with (study / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def search(elman: Command, study: Path, trials: int, *others: Any) -> Said:
    return elman("tune", "text", "a.txt", "--out", study, "--trials", trials, "--space", SPACE, *others)


def test_states_add_up(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(number: int, values: dict[str, Any]) -> list[Any]:
        if number == 3:
            return [2.0, Failure("the loss is nan at step 7")]
        every: list[list[Any]] = [[5, 4, 3], [5, 4, 2], [6, 6, 6], [], [5, 4, 2.5], [5, 4, 4], [9, 9, 9], [5, 3.9, 1]]
        return every[number]

    FakeTrials(monkeypatch, losses, draws=True)
    study = tmp_path / "study"
    said = search(elman, study, 8)
    assert said.code == 0
    states = ["complete", "complete", "complete", "failed", "complete", "complete", "pruned", "complete"]
    rows = table(study)
    assert [row["state"] for row in rows] == states
    assert [row["validation_loss"] for row in rows] == ["3.0", "2.0", "6.0", "2.0", "2.5", "4.0", "9.0", "1.0"]
    assert rows[3]["reason"] == "the loss is nan at step 7"
    assert {row["seconds"] for row in rows} == {"1.5", "1.0", "0.5"}
    assert "8 trials: 6 complete, 1 pruned, 1 failed" in said.out
    assert f"best: trial 7, validation loss 1.0000, {study / 'trial-0007'}" in said.out
    assert (study / "trials.svg").read_text().count("<svg") == 1
    lines = said.err.splitlines()
    assert len(lines) == 10
    first = r"trial 0: complete, validation 3.0000; lr .*, hidden \d+; best 3.0000 \(trial 0\); \d+:\d\d left"
    assert re.fullmatch(first, lines[0])
    assert "trial 3: failed" in lines[3]
    assert "the loss is nan at step 7" in lines[3]
    assert lines[8:] == [f"table: {study / 'trials.csv'}", f"picture: {study / 'trials.svg'}"]


# The fake runs have no labels, so those of `series` predict numbers.
@pytest.mark.parametrize(("task", "loss"), [("text", "nats per token"), ("series", "scaled pinball")])
def test_the_picture_names_the_loss_of_the_runs(
    elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, loss: str
) -> None:
    drawn = list[str]()
    FakeTrials(monkeypatch, of_size)
    monkeypatch.setattr(pictures, "draw", lambda *arguments: drawn.append(arguments[-1]))
    assert elman("tune", task, "a.txt", "--out", tmp_path / "study", "--trials", 1, "--space", SPACE).code == 0
    assert drawn == [loss]


def test_pruned_runs_are_small_and_ended(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTrials(monkeypatch, lambda number, values: [1.0, 1.0, 1.0] if number < 1 else [9.0, 9.0, 9.0])
    monkeypatch.setattr(studies, "STARTUP", 1)
    search(elman, tmp_path / "study", 2)
    pruned, complete = tmp_path / "study" / "trial-0001", tmp_path / "study" / "trial-0000"
    assert open_run(pruned).config["ended"] == {"steps": 2, "seconds": 1.0, "limit": None, "pruned": True}
    assert not (pruned / "checkpoints").exists()
    assert (complete / "checkpoints").exists()
    assert "pruned by elman tune" in elman("info", pruned).out


@pytest.mark.slow
def test_no_trial_is_pruned_with_no_prune(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTrials(monkeypatch, lambda number, values: [float(number)] * 3)
    monkeypatch.setattr(studies, "STARTUP", 1)
    assert "3 complete, 0 pruned" in search(elman, tmp_path / "study", 3, "--no-prune").out
    assert "1 complete, 2 pruned" in search(elman, tmp_path / "pruned", 3).out


def test_the_first_trial_has_the_defaults(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTrials(monkeypatch, lambda number, values: [1.0])
    assert elman("tune", "image", "--trials", 1, "--out", tmp_path / "study").code == 0
    ((_, values, _),) = fake.begun
    assert values == {
        "lr": 0.003, "cell": "gru", "hidden": 96, "layers": 1, "dropout": 0.2, "batch": 32, "filters": 16,
        "perturb": 0.15,
    }  # fmt: skip


def test_the_same_command_goes_on(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The options of each trial are those of a search in one go."""
    monkeypatch.setattr(studies, "TPESampler", partial(TPESampler, n_startup_trials=2))
    fake = FakeTrials(monkeypatch, of_size)
    search(elman, tmp_path / "whole", 6)
    whole, fake.begun = fake.begun, []
    for trials in (1, 5, 6):
        assert search(elman, tmp_path / "parts", trials).code == 0
    assert fake.begun == whole
    assert len({tuple(values.values()) for _, values, _ in whole}) == 6
    said = search(elman, tmp_path / "parts", 6)  # nothing is left
    assert fake.begun == whole
    assert "6 trials: " in said.out
    assert "a search with 6 trials, which are kept; nothing to train with --trials 6" in said.err


@pytest.mark.slow
def test_another_seed_draws_other_options(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTrials(monkeypatch, of_size)
    search(elman, tmp_path / "0", 2)
    search(elman, tmp_path / "1", 2, "--seed", 1)
    assert fake.begun[1] != fake.begun[3]


@pytest.mark.slow
def test_an_interrupted_trial_is_continued(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTrials(monkeypatch, of_size)
    search(elman, tmp_path / "whole", 4)
    whole, fake.begun = fake.begun, []
    fake.losses = lambda number, values: [3.0, KeyboardInterrupt()] if number == 2 else of_size(number, values)
    study = tmp_path / "parts and more"
    said = search(elman, study, 4)
    assert said.code == 130
    line = next(line for line in said.err.splitlines() if line.startswith("Interrupted"))
    assert line.startswith("Interrupted. 3 trials: 2 complete, 0 pruned, 0 failed, 1 interrupted; to go on: elman tune")
    assert [row["state"] for row in table(study)] == ["complete", "complete", "interrupted"]
    fake.losses = of_size
    assert elman(*shlex.split(line.partition("to go on: elman ")[2])).code == 0
    resumed = [(2, whole[2][1], True)]
    assert fake.begun == [*whole[:3], *resumed, *whole[3:]]
    assert [row["state"] for row in table(study)] == ["complete"] * 4


def test_a_folder_that_is_gone_is_made_again(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTrials(monkeypatch, lambda number, values: [3.0, KeyboardInterrupt()])
    search(elman, tmp_path / "study", 1)
    shutil.rmtree(tmp_path / "study" / "trial-0000")
    fake.losses = of_size
    assert search(elman, tmp_path / "study", 1).code == 0
    assert [resumed for _, _, resumed in fake.begun] == [False, False]


def test_the_time_is_over(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTrials(monkeypatch, lambda number, values: [1.0, OutOfTime()] if number == 2 else [1.0])
    said = search(elman, tmp_path / "study", 5, "--timeout", "10m")
    assert said.code == 0
    assert "The time is over. 3 trials: 2 complete, 0 pruned, 0 failed, 1 interrupted; to go on: elman tune" in said.err
    assert "3 trials: 2 complete" in said.out
    assert "--timeout" not in said.err


def test_a_search_without_time(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTrials(monkeypatch, of_size)
    said = search(elman, tmp_path / "study", 5, "--timeout", "0.000000001s")
    failed(said, "expected a complete trial, got 0 trials")


@pytest.mark.slow
def test_trials_that_all_fail(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTrials(monkeypatch, lambda number, values: [2.0, Failure(f"diverged {number}")])
    failed(search(elman, tmp_path / "few", 2), "expected a complete trial", "2 failed; the last: diverged 1")
    failed(search(elman, tmp_path / "many", 20), "5 trials in a row failed; the last: diverged 4")
    assert [row["state"] for row in table(tmp_path / "many")] == ["failed"] * 5


@pytest.mark.slow
def test_options_that_cannot_be_combined_fail_alone(
    elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeTrials(monkeypatch, lambda number, values: [BadInput("--batch: too large")] if number == 1 else [1.0])
    (tmp_path / "a.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert "2 complete, 0 pruned, 1 failed" in search(elman, tmp_path / "study", 3).out
    Path("a.txt").unlink()  # now it is the data
    FakeTrials(monkeypatch, lambda number, values: [BadInput("a.txt: does not exist")])
    refused(search(elman, tmp_path / "study", 5), "a.txt: does not exist")
    FakeTrials(monkeypatch, of_size)
    Path("a.txt").touch()
    assert "4 complete, 0 pruned, 1 failed" in search(elman, tmp_path / "study", 5).out


@pytest.mark.slow
def test_data_that_cannot_be_used_leave_nothing(elman: Command, tmp_path: Path) -> None:
    refused(elman("tune", "text", tmp_path / "none.txt", "--out", tmp_path / "a" / "b"), "none.txt: expected a file")
    assert files_in(tmp_path) == set()
    (tmp_path / "tiny.txt").write_text("a")
    refused(elman("tune", "text", tmp_path / "tiny.txt", "--out", tmp_path / "study"), "longer text")
    assert files_in(tmp_path) == {"tiny.txt"}


def test_other_data_are_refused(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTrials(monkeypatch, of_size)
    search(elman, tmp_path / "study", 1)
    fake.digest = "another"
    refused(search(elman, tmp_path / "study", 2), "expected the data of the first trial, got other or changed data")
    fake.digest = "digest"
    assert "2 complete" in search(elman, tmp_path / "study", 2).out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--layers", 2], ["options layers: expected nothing, got 2"]),
        (["--epochs", 5], ["options epochs: expected 3.0, got 5.0"]),
        (["--space", "lr=1e-3..1:log"], ["space hidden: expected 4,8,16, got nothing"]),
    ],
)
def test_another_search_in_the_same_folder(
    elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[Any], parts: list[str]
) -> None:
    FakeTrials(monkeypatch, of_size)
    command = ["tune", "text", "a.txt", "--out", tmp_path, "--trials", 1]
    first = {"--space": SPACE, "--epochs": 3}
    elman(*command, *(word for pair in first.items() for word in pair))
    first |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    said = elman(*command, *(word for pair in first.items() for word in pair))
    refused(said, f"--out {tmp_path}: this study has other settings", *parts)


def test_folders_that_are_no_study(elman: Command, tmp_path: Path, trained: Path) -> None:
    refused(search(elman, trained, 1), "expected a new folder, or that of a study, got a run")
    (tmp_path / "file").touch()
    refused(search(elman, tmp_path, 1), "got a folder with other files")
    refused(search(elman, tmp_path / "file", 1), "expected a folder, got a file")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.db").write_bytes(b"no database" * 100)
    refused(search(elman, tmp_path / "study", 1), "study.db: expected a study that elman tune has written")
    (tmp_path / "study" / "study.db").unlink()
    (tmp_path / "study" / "study.db").symlink_to(tmp_path / "file")
    refused(search(elman, tmp_path / "study", 1), "study.db: expected a file, got a symbolic link")
    assert (tmp_path / "file").read_bytes() == b""


def test_two_searches_in_one_folder(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import ExitStack

    FakeTrials(monkeypatch, of_size)
    search(elman, tmp_path / "study", 1)
    with ExitStack() as stack:
        lock_folder(tmp_path / "study", "--out", stack)
        refused(search(elman, tmp_path / "study", 2), "is being searched in by another process")


def test_a_disk_that_is_full(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    def full(self: Any, *arguments: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    FakeTrials(monkeypatch, of_size)
    monkeypatch.setattr(studies.Study, "complete", full)
    failed(search(elman, tmp_path / "study", 2), "study.db: cannot be read or written: database or disk is full")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--devices", 2], ["expected --devices 1", "--ray ADDRESS"]),
        (["-"], ["expected data in files, got standard input"]),
        (["--lr", 0.1], ["--space lr: expected an option that is not fixed, got --lr too"]),
        (["--trials", 0], ["--trials", "of at least 1"]),
    ],
)
def test_what_a_search_cannot_do(elman: Command, tmp_path: Path, arguments: list[Any], parts: list[str]) -> None:
    data = [] if arguments == ["-"] else ["a.txt"]
    said = elman("tune", "text", *data, "--out", tmp_path / "study", "--space", SPACE, *arguments)
    refused(said, *parts)
    assert files_in(tmp_path) == set()


def test_results_as_json(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTrials(monkeypatch, of_size)
    said = search(elman, tmp_path / "study", 3, "--json", "--quiet")
    values = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert values["counts"] == {"complete": 3, "pruned": 0, "failed": 0, "interrupted": 0}
    assert [trial["trial"] for trial in values["trials"]] == [0, 1, 2]
    assert values["best"]["validation_loss"] == min(trial["validation_loss"] for trial in values["trials"])
    assert values["best"]["run"] == str(tmp_path / "study" / f"trial-{values['best']['trial']:04}")
    assert values["best"]["command"].startswith("elman train text a.txt --hidden ")


def test_a_configuration_file(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTrials(monkeypatch, lambda number, values: [1.0])
    values = {"data": "b.txt", "layers": 2, "lr": 0.1, "epochs": 2}
    config = written(tmp_path / "c.yaml", values)
    said = elman("tune", "text", "--config", config, "--out", tmp_path / "a", "--trials", 1, "--space", SPACE)
    assert "elman train text b.txt" in said.out
    assert "--layers 2" in said.out
    assert fake.begun[-1][1].keys() == {"lr", "hidden"}
    elman("tune", "text", "--config", config, "--out", tmp_path / "b", "--trials", 1)
    assert not {"lr", "layers"} & fake.begun[-1][1].keys()


def test_the_default_folder(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FakeTrials(monkeypatch, of_size)
    assert elman("tune", "text", "a.txt", "--trials", 1, "--space", SPACE).code == 0
    assert "2 trials" in elman("tune", "text", "a.txt", "--trials", 2, "--space", SPACE).out
    assert Path("runs", "text-study", "trial-0001", "config.json").exists()


@pytest.mark.slow
def test_odd_names(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path with characters that have a meaning in addresses of databases, and in a shell."""
    FakeTrials(monkeypatch, of_size)
    study = tmp_path / "a b?c=1#%20;'"
    assert search(elman, study, 1).code == 0
    assert (study / "study.db").exists()
    assert files_in(tmp_path) == {study.name} | {f"{study.name}/{name}" for name in files_in(study)}


def test_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTrials(monkeypatch, of_size)
    space = {"lr": "1e-3..1e-1:log", "hidden": [4, 8, 16]}
    tuned = package.tune.search("text", "a.txt", tmp_path / "a", trials=2, space=space, epochs=2)
    assert tuned.counts["complete"] == len(tuned.trials) == 2
    assert tuned.best_loss == min(trial["validation_loss"] for trial in tuned.trials)
    assert tuned.best_options == {"epochs": 2.0, **fake.begun[tuned.best_trial][1]}
    assert tuned.command
    assert tuned.command.startswith("elman train text a.txt --hidden ")
    again = package.tune.search("text", "a.txt", tmp_path / "a", trials=2, space=space, epochs=2)
    assert again == tuned
    assert package.tune.search("text", [["text"]], tmp_path / "b", trials=1, space=space).command is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"task": "test"}, ValueError, "elman.tune.search: task: expected one of text, image"),
        ({"trials": 0}, ValueError, "elman.tune.search: trials: expected an integer of at least 1, got 0"),
        ({"timeout": "soon"}, ValueError, "expected a time such as 90s, 10m or 2h, got 'soon'"),
        ({"space": ["lr"]}, TypeError, "elman.tune.search: space: expected a dict of options, got list"),
        ({"space": {"lr": [0.1]}}, BadInput, "space lr=0.1: expected a range or several values"),
        ({"hiden": 3}, TypeError, "elman.tune.search: hiden: expected one of"),
        ({"hidden": 0}, ValueError, "elman.tune.search: hidden: expected an integer of at least 1, got 0"),
    ],
)
def test_what_python_refuses(tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    defaults: dict[str, Any] = {"task": "text", "data": "a.txt", "out": tmp_path / "study"}
    with pytest.raises(error, match=re.escape(message)):
        package.tune.search(**defaults | arguments)
    assert files_in(tmp_path) == set()


def test_without_optuna(elman: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("elman.tune.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    refused(elman("tune", "text", "a.txt"), "elman: elman tune needs optuna: pip install 'elman[tune]'")


def test_without_ray(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "elman.tune.ray_search", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    said = search(elman, tmp_path / "study", 1, "--ray", "local")
    refused(said, "elman: elman tune --ray needs ray: pip install 'elman[ray]'")
    assert files_in(tmp_path) == set()
