"""The folder of a run: claimed, locked, removed, and continued after a death at any moment."""

import errno
import fcntl
import json
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from elman.errors import BadInput
from elman.io import run_folder as runs
from elman.io.metrics_csv import CsvTable
from elman.io.run_folder import new_run, resumed_run
from elman.training.callbacks import CheckpointCallback, TimeBudget
from elman.training.options import TrainingOptions
from tests.small import Command, files, text
from tests.test_bad_input import failed, refused

CONFIG = {"task": "text", "data": {}, "model": {}, "options": {}, "training": {}}
TRAIN = ["--epochs", 2, "--dropout", 0.2, "--hidden", 8, "--embed", 4, "--batch", 4, "--bptt", 60]
LAST = 14  # the step of the last validation: 1,800 tokens in 4 streams of chunks of 60, twice


class Crash(BaseException):
    """As kill -9: where it is raised, nothing is cleaned up."""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("short") / "text.txt"
    path.write_text(text(2250))
    return path


@pytest.fixture(scope="module")
def whole(short: Path) -> Path:
    """The run that nothing interrupts."""
    from elman.cli import run

    path = short.parent / "whole"
    assert run(["train", "text", str(short), "--out", str(path), *map(str, TRAIN)]) == 0
    return path


def result(run: Path) -> tuple[Any, ...]:
    """All that a training comes to: weights, scores, and the losses on the way."""
    config = json.loads((run / "config.json").read_text())
    losses = [line.split(",")[:-1] for line in (run / "metrics.csv").read_text().splitlines()]
    return (run / "model.safetensors").read_bytes(), config["scores"], config["ended"]["steps"], losses


def fail_at(patch: pytest.MonkeyPatch, name: str, time: int, error: BaseException, after: bool) -> None:
    """Fail when a file of this name is written for this time, just before it is there, or after."""
    replace, times = Path.replace, Counter[str]()

    def failing(self: Path, target: Path) -> Path:
        times[target.name] += 1
        if (target.name, times[target.name]) == (name, time) and not after:
            raise error
        result = replace(self, target)
        if (target.name, times[target.name]) == (name, time):
            raise error
        return result

    patch.setattr(Path, "replace", failing)


def test_runs_that_start_together_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    together, ready, names = threading.Barrier(8), threading.Barrier(8), []

    def train() -> None:
        ready.wait()
        with new_run(None, CONFIG) as run:
            names.append(run.path.name)
            together.wait()

    threads = [threading.Thread(target=train) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == [f"text-{n}" for n in range(1, 9)]
    assert all((tmp_path / "runs" / name / "config.json").exists() for name in names)


@pytest.mark.parametrize("out", [None, Path("mine/run")])
def test_a_training_that_starts_while_another_reads_its_data(
    elman: Command, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Path | None
) -> None:
    """The other has been in the folder before this one comes to make it."""
    from elman.tasks.text.task import TextTask

    monkeypatch.chdir(tmp_path)
    prepare, other = TextTask.prepare, ExitStack()

    def slow(self: TextTask, *arguments: Any, **options: Any) -> Any:
        other.enter_context(new_run(out, CONFIG))
        return prepare(self, *arguments, **options)

    monkeypatch.setattr(TextTask, "prepare", slow)
    said = elman("train", "text", short, *TRAIN, *(["--out", out] if out else []))
    if out:
        refused(said, "--out mine/run: expected a new or empty folder, got a run; choose another name")
    else:
        assert said.code == 0
        assert (tmp_path / "runs" / "text-2" / "curves.png").exists()
    assert (tmp_path / (out or "runs/text-1") / "config.json").exists()
    other.close()


def test_a_run_that_fails_removes_what_it_made_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_both() -> None:
        with new_run(Path("runs"), CONFIG) as outer:
            outer.place("codec.json").write_text("{}")
            outer.place("checkpoints").mkdir()
            Path("runs/notes.txt").write_text("by hand")
            with new_run(None, CONFIG) as inner:
                assert inner.path == Path("runs/text-1")
                inner.last.parent.mkdir()
                inner.last.touch()
            raise Crash

    monkeypatch.chdir(tmp_path)
    with pytest.raises(Crash):
        train_both()
    assert files(tmp_path) == {
        "runs", "runs/notes.txt", "runs/text-1", "runs/text-1/.lock", "runs/text-1/config.json",
        "runs/text-1/checksums.json", "runs/text-1/checkpoints", "runs/text-1/checkpoints/last.ckpt",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["run", "a/b/run", "a[1]/b c/*?/r\u00fcn"])
def test_a_run_that_fails_alone_leaves_nothing(tmp_path: Path, path: str) -> None:
    def train() -> None:
        with new_run(tmp_path / path, CONFIG) as run:
            run.save_tensors("model", {"weight": torch.zeros(2)})
            raise Crash

    with pytest.raises(Crash):
        train()
    assert not files(tmp_path)
    empty = tmp_path / path
    empty.mkdir(parents=True)
    with pytest.raises(Crash):
        train()
    assert list(empty.iterdir()) == []  # it was there before


def test_a_run_that_is_being_trained_is_refused_until_its_process_dies(
    elman: Command, copied: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file() and path.name != ".lock"}
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(copied / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        refused(
            elman("train", "text", "--resume", copied, "--epochs", 4),
            f"--resume {copied}: this run is being trained by another process; wait",
        )
        other.kill()
    after = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before
    assert elman("train", "text", "--resume", copied, "--epochs", 3.2).code == 0


def test_a_training_holds_its_lock(
    elman: Command, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one and a resumed one, from its first step to the last file."""
    path, refusals = tmp_path / "run", []

    def try_it(*_: Any) -> None:
        for again in (resumed_run(path), new_run(path, CONFIG)):
            with pytest.raises(BadInput) as error, again:
                pass
            refusals.append(str(error.value))

    monkeypatch.setattr(CheckpointCallback, "on_train_start", try_it)
    assert elman("train", "text", short, "--out", path, *TRAIN).code == 0
    assert elman("train", "text", "--resume", path, "--epochs", 3).code == 0
    assert ["is being trained by another process" in refusal for refusal in refusals] == [True, False] * 2
    assert "got a run; choose another name" in refusals[1]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EROFS])
def test_folders_that_cannot_be_locked(
    elman: Command, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    refused(elman("train", "text", "--resume", copied, "--epochs", 4), f"--resume {copied}: ", "no locks here")
    with pytest.raises(BadInput, match="no locks here"), new_run(tmp_path / "new", CONFIG):
        pass
    assert not (tmp_path / "new").exists()


# Before config.json; before and after a file of the task; before the first checkpoint.
@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["config.json", "checksums.json", "tokenizer.json", "last.ckpt"])
@pytest.mark.parametrize("after", [False, True])
def test_a_training_killed_before_its_first_checkpoint_starts_again(
    elman: Command, short: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: bool
) -> None:
    path = tmp_path / "run"
    train = ("train", "text", short, "--out", path, *TRAIN)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_remove", lambda *_: None)
        fail_at(patch, name, 1, Crash(), after)
        with pytest.raises(Crash):
            elman(*train)
    if (path / "config.json").exists():
        refused(elman(*train), "got a run; choose another name, or resume it: elman train TASK --resume")
        assert "does not exist yet" in elman("generate", path).err
        said = elman("train", "text", "--resume", path)
    else:
        said = elman(*train)
    assert said.code == 0, said
    assert ("the training starts from the beginning" in said.err) == ((path.name, name, after) in STARTS)
    assert result(path) == result(whole)


STARTS = {
    ("run", "config.json", True),
    ("run", "checksums.json", False),
    ("run", "checksums.json", True),
    ("run", "tokenizer.json", False),
    ("run", "tokenizer.json", True),
    ("run", "last.ckpt", False),
}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_data_of_one_batch_can_be_interrupted(
    elman: Command, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Every step is the last of an epoch, and followed by a validation."""
    train = ("train", "text", short, *TRAIN[2:-1], 449, "--epochs", 6)
    assert elman(*train, "--out", tmp_path / "whole").code == 0
    step = CheckpointCallback.on_train_batch_end

    def interrupted(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == 3:
            signal.raise_signal(number)
        step(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "on_train_batch_end", interrupted)
        said = elman(*train, "--out", tmp_path / "run")
    assert said.code == 128 + number
    assert f"Everything is saved; to resume: elman train text --resume {tmp_path / 'run'}" in said.err
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 2 * 3
    assert elman("train", "text", "--resume", tmp_path / "run").code == 0
    assert result(tmp_path / "run") == result(tmp_path / "whole")


ENDINGS: list[tuple[str, int, bool]] = [  # files, how often they are written in all, and whether they are there
    ("last.ckpt", 3, False),
    ("last.ckpt", 3, True),
    ("best.ckpt", 2, False),
    ("model.safetensors", 2, False),
    ("model.safetensors", 2, True),
    ("baseline.safetensors", 1, False),
    ("curves.png", 1, True),
    ("checksums.json", 6, False),  # before last.ckpt of the last validation
    ("checksums.json", 6, True),
    ("checksums.json", 7, True),  # before best.ckpt
    ("checksums.json", 9, True),  # before config.json
    ("config.json", 2, False),
]


@pytest.mark.sample(1)
@pytest.mark.parametrize(("name", "time", "after"), ENDINGS)
@pytest.mark.parametrize("how", ["killed", "full"])
def test_a_training_that_ends_badly_is_brought_to_the_same_end(
    elman: Command, short: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, time: int, after: bool, how: str,
) -> None:  # fmt: skip
    """Killed, or out of space, at every file that is written at the last validation or behind it."""
    path = tmp_path / "run"
    train = ("train", "text", short, "--out", path, *TRAIN)
    with monkeypatch.context() as patch:
        if how == "killed":
            fail_at(patch, name, time, Crash(), after)
            with pytest.raises(Crash):
                elman(*train)
        else:
            fail_at(patch, name, time, OSError(errno.ENOSPC, "No space left on device"), after)
            failed(elman(*train), f"--out {path}: cannot be written: ", "No space left", f"train text --resume {path}")
    assert not json.loads((path / "config.json").read_text()).get("ended")
    assert elman("train", "text", "--resume", path).code == 0
    assert result(path) == result(whole)
    assert "ended" in elman("train", "text", "--resume", path).err


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["last.ckpt", "model.safetensors", "checksums.json"])
def test_permission_that_is_lost_on_the_way(
    elman: Command, short: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        times = {"last.ckpt": 2, "model.safetensors": 1, "checksums.json": 5}
        fail_at(patch, name, times[name], PermissionError(errno.EACCES, "Permission denied"), after=False)
        said = elman("train", "text", short, "--out", path, *TRAIN)
    refused(said, f"--out {path}: cannot be written: {name}: Permission denied; to resume from the last checkpoint: ")
    assert not [file for file in files(path) if ".elman-" in file]
    assert elman("train", "text", "--resume", path).code == 0
    assert result(path) == result(whole)


@pytest.mark.parametrize("at", [1, 5])
def test_memory_that_runs_out_in_a_training(
    elman: Command, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The line says which options lower what it takes, and how large they are."""
    path, step = tmp_path / "run", CheckpointCallback.on_train_batch_start

    def starved(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        step(self, trainer, *rest)
        if trainer.global_step + 1 == at:
            torch.zeros(2**50)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "on_train_batch_start", starved)
        said = elman("train", "text", short, "--out", path, *TRAIN)
    lower = "lower --batch (now 4) or --bptt (now 60) or --hidden (now 8) or --layers (now 1) or --embed (now 4)"
    failed(said, f"{path}: not enough memory to train (", lower)
    assert (f"; with more memory, to resume: elman train text --resume {path}" in said.err) == (at > 1)
    assert path.exists() == (at > 1)


def test_a_training_killed_in_its_last_validation(
    elman: Command, short: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == LAST:
            raise Crash

    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "on_validation_start", killed)
        with pytest.raises(Crash):
            elman("train", "text", short, "--out", path, *TRAIN)
    assert elman("train", "text", "--resume", path).code == 0
    assert result(path) == result(whole)


def test_ctrl_c_while_the_end_is_written(
    elman: Command, short: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last validation, and then while the baseline is fitted."""
    from elman.tasks.text.task import TextTask

    def interrupted(self: Any, trainer: Any = None, *rest: Any) -> None:
        if trainer is None or trainer.global_step == LAST:
            signal.raise_signal(signal.SIGINT)

    path = tmp_path / "run"
    for where, arguments in ((CheckpointCallback, (short, "--out", path, *TRAIN)), (TextTask, ("--resume", path))):
        with monkeypatch.context() as patch:
            patch.setattr(
                where,
                *{CheckpointCallback: ("on_validation_start", interrupted), TextTask: ("score_run", _ctrl_c)}[where],
            )
            said = elman("train", "text", *arguments)
        assert said.code == 130
        assert f"is saved; to resume: elman train text --resume {path}" in said.err
    assert elman("train", "text", "--resume", path).code == 0
    assert result(path) == result(whole)


def _ctrl_c(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_row_that_was_cut_short_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for end in ("2,0.25,2.", "\0" * 512, "2,0.25,2." + "\0" * 512):
        path.write_text("step,train_loss,seconds\r\n1,0.5,1.25\r\n" + end)
        CsvTable(path, ["step", "train_loss", "seconds"], keep=2)
        assert path.read_text().splitlines() == ["step,train_loss,seconds", "1,0.5,1.25"]


# For polars a pattern; for Lightning, TensorBoard and fsspec a home, a variable, an address.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["a[1] {b}*?", "~", "$HOME", "http:r\u00fcn", "file:", "-x"])
def test_the_name_of_a_run_is_a_name(
    elman: Command, short: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A run of another name, which the pattern fits, is not read; all that is written is in the folder."""
    step = CheckpointCallback.on_train_batch_end

    def interrupted(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == 4:
            signal.raise_signal(signal.SIGINT)
        step(self, trainer, *rest)

    home, folder = tmp_path / "home", tmp_path / "runs"
    for path in (home, folder, folder / "a1 {b}cd"):
        path.mkdir()
    (folder / "a1 {b}cd" / "metrics.csv").write_text("of another run")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(home))
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "on_train_batch_end", interrupted)
        said = elman("train", "text", short, "--out", name, "--flow-every", 3, *TRAIN)
    assert said.code == 130
    command = said.err.splitlines()[-1].split("; to resume: ")[1]
    argument = shlex.split(command)[-1]  # "./-x", as "-x" would be an option
    assert ".lock" not in elman("info", argument).out  # nothing to look at
    assert elman("evaluate", argument, short).err.endswith(f"; to resume: {command}\n")
    said = elman(*shlex.split(command)[1:])
    assert said.code == 0
    assert result(folder / name) == result(whole)
    assert shlex.split(said.err.splitlines()[-1])[-1] == argument
    assert elman("generate", argument, "--length", 3).code == 0
    assert {"curves.png", "flow.png", "flow.csv", "tensorboard", "checkpoints"} < files(folder / name)
    assert len(list((folder / name / "tensorboard").iterdir())) == 3  # one of each process, and the scores
    assert {path.name for path in home.iterdir()} <= {".cache"}
    assert {path.name for path in folder.iterdir()} == {name, "a1 {b}cd"}


@pytest.mark.parametrize(("loss", "puts_back"), [(1.00001, True), (0.99999, False)])
def test_the_best_weights_are_kept_with_their_own_loss(tmp_path: Path, loss: float, puts_back: bool) -> None:
    """Also at a plateau, which puts the best weights back: not where this validation is a best that hardly gains."""
    path, model = tmp_path / "best.ckpt", torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    best = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    checkpoint = {"state_dict": best, "optimizer_states": [optimizer.state_dict()]}
    torch.save(checkpoint | {"callbacks": {"Keeper": {"best": 1.0}}}, path)
    clock = TimeBudget(TrainingOptions(patience=1, schedule="plateau"), 10**9, 0.0, path)
    clock.step = 2000
    clock.convergence.validated(1.0, 1000)
    trainer: Any = SimpleNamespace(callback_metrics={"val_loss": loss}, optimizers=[optimizer], should_stop=False)
    clock.on_validation_end(trainer, model)  # type: ignore[arg-type]
    assert clock.convergence.decay == (2000, 3000)
    assert all(bool((tensor == 0).all()) for tensor in model.state_dict().values()) == puts_back


def test_the_time_left_is_that_of_the_remaining_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the time before the first step, in which data are read."""
    options, now = TrainingOptions(epochs=1, schedule="cosine"), [100.0]
    monkeypatch.setattr("elman.training.callbacks.time.monotonic", lambda: now[0])
    trainer: Any = None
    for minutes, left in ((None, 90.0), (3.0, 70.0)):
        clock = TimeBudget(options.model_copy(update={"minutes": minutes}), 100, 0.0, tmp_path)
        now[0] = 100.0
        clock.on_train_start(trainer, trainer)
        assert clock.seconds_left == float("inf")
        now[0], clock.step = 110.0, 10
        assert clock.seconds_left == pytest.approx(left)


def test_a_command_that_is_repeated(
    elman: Command, short: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a scheduler does it: with the limit of the training that was interrupted, wherever that was."""
    path, longer = tmp_path / "run", ["--epochs", 3]
    shutil.copytree(whole, path)
    assert elman("train", "text", "--resume", path, *longer).code == 0
    expected = result(path)
    shutil.rmtree(path)
    shutil.copytree(whole, path)
    # Before its first checkpoint; between its last checkpoint and its scores.
    for name, time in (("last.ckpt", 1), ("baseline.safetensors", 1)):
        with monkeypatch.context() as patch:
            fail_at(patch, name, time, Crash(), after=False)
            with pytest.raises(Crash):
                elman("train", "text", "--resume", path, *longer)
        if name == "last.ckpt":
            unlimited = shutil.copytree(path, tmp_path / "unlimited")
    assert elman("train", "text", "--resume", path, *longer).code == 0
    assert result(path) == expected
    assert elman("train", "text", "--resume", unlimited).code == 0  # to the limit that it was to be extended to
    assert result(unlimited) == expected
    refused(elman("train", "text", "--resume", path, *longer), "already trained for 3 epochs")


def test_what_is_told_of_a_run_that_diverged(elman: Command, short: Path, tmp_path: Path) -> None:
    """It is not one to go on with: its options lead to the same step again."""
    path = tmp_path / "run"
    failed(elman("train", "text", short, "--out", path, *TRAIN, "--lr", "1e30", "--clip", 0), "the loss is nan")
    command = f"elman train text --config {path} --lr 0.006"  # as the error message suggests
    message = f"diverged; retrain with a smaller learning rate: {command}"
    assert "".join(message.split()) in "".join(elman("info", path).out.split())  # long paths are wrapped
    assert json.loads(elman("info", path, "--json").out)["resume"] is None
    refused(
        elman("flow", path),
        "does not exist, because training diverged before it saved a model: the loss is nan",
        "--lr 0.006",
    )
