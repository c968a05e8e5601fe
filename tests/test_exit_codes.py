"""Exit codes: 0, 1 (failed), 2 (bad input or usage), 129, 130, 143; results on stdout, all else on stderr."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from elman.errors import Failure, Terminated
from elman.training.checkpoints import progress
from tests.small import SMALL, Command, files


def test_a_training_prints_scores_and_the_run_alone(elman: Command, file: Path, tmp_path: Path) -> None:
    said = elman("train", "text", file, "--epochs", 2, "--out", tmp_path / "run", *SMALL)
    scores = json.loads((tmp_path / "run/config.json").read_text())["scores"]
    head, rule, model, baseline, scored, run = filter(str.strip, said.out.splitlines())
    assert "nats per token" in head
    assert set(rule.strip()) == {"─"}
    assert [line.split("  ")[1].strip() for line in (model, baseline)] == list(scores)
    assert scored.strip() == "on 449 tokens"
    assert run == f"run: {tmp_path / 'run'}"
    for note in (
        "tokens for training",
        "run folder",
        "step ",
        "curves: ",
        f"to write: elman generate {tmp_path / 'run'}",
    ):
        assert note in said.err
        assert note not in said.out


def test_evaluate_prints_the_table_alone(elman: Command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("the wörd sees")
    said = elman("evaluate", trained, tmp_path / "text")
    assert "unknown to this run" in said.err
    assert len(list(filter(str.strip, said.out.splitlines()))) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_before_the_first_step(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Nothing is left behind, as after any failure before the first checkpoint."""
    handlers = {of: signal.getsignal(of) for of in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
    monkeypatch.setattr("elman.tasks.run.fit", lambda *_: signal.raise_signal(number))
    said = elman("train", "text", file, "--out", tmp_path / "run", *SMALL)
    assert said.code == 128 + number
    assert said.err.splitlines()[-1] == f"elman: {'interrupted' if number == signal.SIGINT else 'terminated'}"
    assert files(tmp_path) == set()
    assert {of: signal.getsignal(of) for of in handlers} == handlers


def test_interrupted_while_packages_are_imported() -> None:
    """NumPy, for one, cannot be imported again after KeyboardInterrupt, and its error would be shown."""
    code = """
import signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "elman.cli":
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
from elman.__main__ import main
main()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "elman: interrupted\n")


@pytest.mark.parametrize("is_ignored", [False, True])
def test_a_terminal_that_is_closed(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ignored: bool
) -> None:
    """The terminal and the shell tell it, and the second time is no reason not to save; under nohup, nothing is."""
    from elman.training.callbacks import CheckpointCallback

    def twice(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == 5:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
        step(self, trainer, *rest)

    step = CheckpointCallback.on_train_batch_end
    monkeypatch.setattr(CheckpointCallback, "on_train_batch_end", twice)
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        said = elman("train", "text", file, "--epochs", 0.3, "--out", tmp_path / "run", *SMALL)
    finally:
        signal.signal(signal.SIGHUP, handler)
    assert said.code == (0 if is_ignored else 129)
    saved = f"Everything is saved; to resume: elman train text --resume {tmp_path / 'run'}"
    assert (saved in said.err) == (not is_ignored)
    assert progress(tmp_path / "run/checkpoints/last.ckpt").steps == (7 if is_ignored else 5)


def test_sigterm_twice_does_not_wait(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elman.training.callbacks import CheckpointCallback

    def twice(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        step(self, trainer, *rest)
        if trainer.global_step == 5:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    step = CheckpointCallback.on_train_batch_end
    monkeypatch.setattr(CheckpointCallback, "on_train_batch_end", twice)
    said = elman("train", "text", file, "--epochs", 2, "--out", tmp_path / "run", *SMALL)
    assert said.code == 143
    assert f"The last checkpoint is saved; to resume: elman train text --resume {tmp_path / 'run'}" in said.err


@pytest.mark.slow
def test_a_process_that_is_terminated_exits_with_143(file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "elman", "train", "text", str(file), "--out", str(tmp_path / "run"), *SMALL]
    with subprocess.Popen([*command, "--epochs", "1000"], stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "run/checkpoints/last.ckpt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        _, err = process.communicate()
    assert process.returncode == 143
    assert err.splitlines()[-1].endswith(f"is saved; to resume: elman train text --resume {tmp_path / 'run'}")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.csv"), 1, "elman: a.csv: No space left on device"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES), "a.csv"), 2, "elman: a.csv: Permission denied"),
        (MemoryError(), 1, "elman: not enough memory; use smaller data, smaller layers or a smaller --batch"),
        (Failure("a training failed"), 1, "elman: a training failed"),
        (Terminated(), 143, "elman: terminated"),
        (Terminated(signal.SIGHUP), 129, "elman: terminated"),
        (KeyboardInterrupt(), 130, "elman: interrupted"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_codes_of_errors(
    elman: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr("elman.io.run_folder.open_run", fail)
    said = elman("info", "run")
    assert (said.code, said.out, said.err.strip()) == (code, "", line)
