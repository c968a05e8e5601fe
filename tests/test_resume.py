"""Interrupted and resumed, a training writes what it would have written without."""

import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elman.training import callbacks
from elman.training.callbacks import CheckpointCallback
from tests.small import EPOCH, SMALL, Command
from tests.test_bad_input import refused

TRAIN = ["--epochs", 3, "--dropout", 0.2, "--layers", 2, *SMALL]


def losses(run: Path) -> list[list[str]]:
    """metrics.csv without its last column, the seconds."""
    return [line.split(",")[:-1] for line in (run / "metrics.csv").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, file: Path) -> Path:
    """The run that nobody interrupts."""
    from elman.cli import run

    path = tmp_path_factory.mktemp("whole") / "run"
    assert run(["train", "text", str(file), "--out", str(path), *map(str, TRAIN)]) == 0
    return path


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, what: Any) -> None:
    original = CheckpointCallback.on_train_batch_end

    def on_train_batch_end(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == step:
            what()
        original(self, trainer, *rest)

    monkeypatch.setattr(CheckpointCallback, "on_train_batch_end", on_train_batch_end)


# At the first step of all, within an epoch, at its last (a validation is due) and next to it, at one that is logged.
@pytest.mark.sample(1)
@pytest.mark.parametrize("step", [1, 9, EPOCH - 1, EPOCH, EPOCH + 1, 60])
def test_ctrl_c_saves_and_resuming_changes_nothing(
    elman: Command, file: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        said = elman("train", "text", file, "--out", run, *TRAIN)
    assert said.code == 130
    assert f"to resume: elman train text --resume {run}" in said.err
    assert elman("generate", run, "--length", 3).code == 0  # usable at once
    assert len(losses(run)) < len(losses(whole))
    assert elman("train", "text", "--resume", run).code == 0
    assert losses(run) == losses(whole)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


class Crash(BaseException):
    pass


@pytest.mark.slow
def test_after_a_crash_rows_beyond_the_last_checkpoint_are_written_anew(
    elman: Command, file: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash() -> None:
        raise Crash

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2 * EPOCH - 5, crash)
        with pytest.raises(Crash):
            elman("train", "text", file, "--out", run, *TRAIN)
    assert elman("train", "text", "--resume", run).code == 0
    assert losses(run) == losses(whole)


def test_a_checkpoint_is_saved_every_minute(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which every step takes 25 seconds."""
    step, saved, original, save = 0, list[int](), CheckpointCallback.on_train_batch_end, CheckpointCallback._save

    def on_train_batch_end(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        nonlocal step
        step = trainer.global_step
        original(self, trainer, *rest)

    def record(self: CheckpointCallback, trainer: Any) -> None:
        saved.append(trainer.global_step)
        save(self, trainer)

    monkeypatch.setattr(CheckpointCallback, "on_train_batch_end", on_train_batch_end)
    monkeypatch.setattr(CheckpointCallback, "_save", record)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: 25.0 * step))
    assert elman("train", "text", file, "--out", tmp_path / "run", "--epochs", 0.6, *SMALL).code == 0
    assert saved[:5] == [1, 4, 7, 10, 13]  # after more than 60 seconds


@pytest.mark.slow
def test_a_moved_run_can_be_resumed_and_made_longer(elman: Command, whole: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(whole, tmp_path / "moved")
    before = losses(moved)
    said = elman("train", "text", "--resume", moved, "--epochs", 4)
    assert said.code == 0
    assert losses(moved)[: len(before)] == before
    assert float(losses(moved)[-1][1]) == 4.0
    assert "ended" in elman("train", "text", "--resume", moved).err


def test_ctrl_c_twice_does_not_wait(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    interrupt_at(monkeypatch, 20, twice)
    assert elman("train", "text", file, "--out", tmp_path / "run", *TRAIN).code == 130
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("less", [["--epochs", 3], ["--epochs", 0.5], ["--minutes", 1e-5]])
def test_as_much_as_is_done_is_not_gone_on_with(elman: Command, whole: Path, tmp_path: Path, less: list[Any]) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    before = (run / "config.json").read_bytes()
    refused(elman("train", "text", "--resume", run, *less), "this run has already trained for 3 epochs in", less[0])
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize("spoil", ["gone", "cut", "empty", "foreign"])
def test_a_resumption_that_is_refused_changes_nothing(elman: Command, whole: Path, tmp_path: Path, spoil: str) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    last = run / "checkpoints" / "last.ckpt"
    if spoil == "gone":
        last.unlink()
    else:
        last.write_bytes({"cut": last.read_bytes()[:1000], "empty": b"", "foreign": b"PK no checkpoint"}[spoil])
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refused(elman("train", "text", "--resume", run, "--epochs", 4), "last.ckpt", "expected")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
