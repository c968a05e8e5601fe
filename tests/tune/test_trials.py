"""Searches whose trials are trained: a text, in a fraction of a second each."""

import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from elman.io.run_folder import open_run
from elman.tune import study as studies
from elman.tune.trial import OutOfTime, TrialSetup, train_trial
from tests.server import Server
from tests.small import EPOCH, Command
from tests.test_bad_input import refused
from tests.test_resume import interrupt_at, losses

FIXED = ["--embed", 8, "--batch", 16, "--bptt", 10, "--layers", 1]
SPACE = ["--space", "lr=1e-3..1e-1:log hidden=4,8,12 dropout=0..0.4"]
SETUP = {"embed": 8, "batch": 4, "bptt": 10, "hidden": 4, "epochs": 2.0}


def validations(run: Path) -> list[str]:
    return [line[3] for line in losses(run)[1:] if line[3]]


@pytest.fixture(scope="module")
def study(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search, not to be changed."""
    from elman.cli import run

    path = tmp_path_factory.mktemp("tune") / "study"
    command = ["tune", "text", file, "--out", path, "--trials", 3, "--epochs", 2, *FIXED, *SPACE]
    assert run(list(map(str, command))) == 0
    return path


def test_trials_are_runs(elman: Command, study: Path) -> None:
    for trial in (f"trial-{number:04}" for number in range(3)):
        assert open_run(study / trial).config["ended"]["steps"] == 2 * EPOCH
        assert elman("generate", study / trial, "--length", 3).code == 0
    rates = {open_run(study / f"trial-{number:04}").config["training"]["lr"] for number in range(3)}
    assert len(rates) == 3


def test_the_command_that_repeats_the_best(elman: Command, study: Path, file: Path, tmp_path: Path) -> None:
    said = elman("tune", "text", file, "--out", study, "--trials", 3, "--epochs", 2, *FIXED, *SPACE)  # prints it again
    command = said.out.partition("to repeat it: elman ")[2].strip()
    best = Path(said.out.partition("best: ")[2].splitlines()[0].rpartition(", ")[2])
    assert elman(*shlex.split(command), "--out", tmp_path / "run").code == 0
    assert losses(tmp_path / "run") == losses(best)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (best / "model.safetensors").read_bytes()
    assert f"{min(map(float, validations(best))):.4f}" in said.out


@pytest.mark.slow
def test_sigterm_within_a_trial_changes_nothing(
    elman: Command, study: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["tune", "text", file, "--out", tmp_path / "study", "--trials", 3, "--epochs", 2, *FIXED, *SPACE]
    stops = iter([True])

    def stop() -> None:
        if (tmp_path / "study" / "trial-0001").exists() and next(stops, False):
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        interrupt_at(patch, EPOCH + 7, stop)
        said = elman(*command)
    assert said.code == 143
    assert "Interrupted. 2 trials: 1 complete, 0 pruned, 0 failed, 1 interrupted; to go on: elman tune text" in said.err
    assert elman(*command).code == 0
    for trial in (f"trial-{number:04}" for number in range(3)):
        assert losses(tmp_path / "study" / trial) == losses(study / trial)
        assert open_run(tmp_path / "study" / trial).config["scores"] == open_run(study / trial).config["scores"]


def test_a_killed_search(file: Path, study: Path, tmp_path: Path) -> None:
    command = ["tune", "text", file, "--out", tmp_path / "study", "--trials", 3, "--epochs", 2, *FIXED, *SPACE]
    with Server() as server:
        for kill_at in (9, 25, 60, 90):  # files that are replaced
            server.start(*command, err=tmp_path / "err", within=str(tmp_path / "study"), kill_at=kill_at)
            assert server.wait() in (-signal.SIGKILL, 0), (tmp_path / "err").read_text()
        server.start(*command, err=tmp_path / "err")
        assert server.wait() == 0, (tmp_path / "err").read_text()
    for trial in (f"trial-{number:04}" for number in range(3)):
        assert losses(tmp_path / "study" / trial) == losses(study / trial)


@pytest.mark.slow
def test_a_pruned_trial_is_a_run(elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = list[tuple[int, int]]()

    def report(self: studies.Study, number: int, epoch: int, loss: float) -> bool:
        reports.append((number, epoch))
        return number == 1

    monkeypatch.setattr(studies.Study, "report", report)
    command = ["tune", "text", file, "--out", tmp_path / "study", "--trials", 2, "--epochs", 2, *FIXED, *SPACE]
    assert "1 complete, 1 pruned" in elman(*command).out
    assert reports == [(0, 1), (0, 2), (1, 1)]
    pruned = tmp_path / "study" / "trial-0001"
    assert len(validations(pruned)) == 1
    assert not (pruned / "checkpoints").exists()
    assert "pruned by elman tune" in elman("info", pruned).out
    assert elman("generate", pruned, "--length", 3).code == 0
    assert elman("report", pruned).code == 0
    refused(elman("train", "text", "--resume", pruned), "this training has ended")
    refused(elman("train", "text", "--resume", pruned, "--epochs", 4), "expected a run folder with checkpoints/")


@pytest.mark.slow
def test_a_trial_that_diverges(elman: Command, file: Path, tmp_path: Path) -> None:
    said = elman(
        "tune", "text", file, "--out", tmp_path / "study", "--trials", 6, "--epochs", 0.2, *FIXED, "--hidden", 4,
        "--space", "lr=1e-2,1e37",
    )  # fmt: skip
    counts = said.out.partition("6 trials: ")[2].splitlines()[0]
    complete, pruned, failures = (int(part.split()[0]) for part in counts.split(", "))
    assert (complete + failures, pruned) == (6, 0)
    assert complete
    assert failures
    assert said.err.count("--lr 1e+37") == failures


@pytest.mark.slow
def test_a_trial_whose_time_is_over(file: Path, tmp_path: Path) -> None:
    setup = TrialSetup("text", [file], SETUP)
    reports = list[Any]()

    def report(epoch: int, loss: float) -> bool:
        reports.append(epoch)
        return False

    with pytest.raises(OutOfTime):
        train_trial(setup, {"lr": 0.01}, tmp_path / "run", report, deadline=0.0)
    assert not (tmp_path / "run").exists()  # nothing to go on from
    train_trial(setup, {"lr": 0.01}, tmp_path / "run", report)
    assert reports == [1, 2]
    train_trial(setup, {"lr": 0.01}, tmp_path / "run", report)  # it has ended
    assert reports == [1, 2]


@pytest.mark.slow
def test_what_verbose_prints(elman: Command, file: Path, tmp_path: Path) -> None:
    command = ["tune", "text", file, "--out", tmp_path / "study", "--trials", 1, "--epochs", 0.1, *FIXED, *SPACE]
    assert "LSTM" in elman(*command, "--verbose").err
