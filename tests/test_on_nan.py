"""`--on-nan skip`: a step whose loss or gradient is not finite leaves no trace but its count."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from elman import tasks
from elman.tasks.run import TrainingPlan
from elman.tasks.series.model import StepNorm
from elman.training.callbacks import CheckpointCallback
from elman.training.checkpoints import progress
from elman.training.options import MAX_SKIPPED
from tests.small import SMALL, Command
from tests.tasks.test_damaged import DATA
from tests.test_bad_input import failed, refused

TRAIN = ["--epochs", 1, "--dropout", 0.2, *SMALL, "--batch", 4]  # 89 steps
BAD = (5, 30, 31, 89)  # steps

Spoil = Callable[[Tensor, nn.Module], Tensor]


def infinite_slope(loss: Tensor, model: nn.Module) -> Tensor:
    """The same loss, with a gradient of infinity times zero."""
    return loss + (next(model.parameters()).sum() * 0).sqrt()


SPOILS: dict[str, Spoil] = {
    "nan": lambda loss, model: loss * torch.nan,
    "inf": lambda loss, model: loss + torch.inf,
    "gradient": infinite_slope,
}


def spoil(patch: pytest.MonkeyPatch, bad: Callable[[int], bool], how: Spoil, seen: list[Any] | None = None) -> None:
    """Spoil the losses of steps; note the weights and the state of the optimizer after each step."""
    step = [0]

    def begin(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        step[0] = trainer.global_step + 1

    def end(self: CheckpointCallback, trainer: Any, module: Any, *rest: Any) -> None:
        if seen is not None:
            states = trainer.optimizers[0].state.values()
            tensors = [*module.model.state_dict().values(), *(tensor for state in states for tensor in state.values())]
            seen.append([tensor.detach().clone() for tensor in tensors])
        on_end(self, trainer, module, *rest)

    def loss(plan: TrainingPlan) -> Any:
        model: Any = plan.model

        def spoiled(batch: Any, state: Any) -> Any:
            total, count, state = model.loss(batch, state)
            return how(total, model) if model.training and bad(step[0]) else total, count, state

        return spoiled

    on_end, on_begin = CheckpointCallback.on_train_batch_end, CheckpointCallback.on_train_batch_start

    def both(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        begin(self, trainer)
        on_begin(self, trainer, *rest)

    patch.setattr(CheckpointCallback, "on_train_batch_start", both)
    patch.setattr(CheckpointCallback, "on_train_batch_end", end)
    patch.setattr(TrainingPlan, "loss", property(loss))


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


@pytest.mark.sample(1)
@pytest.mark.parametrize("how", SPOILS)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_a_skipped_step_changes_nothing(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, optimizer: str
) -> None:
    seen, run = list[list[Tensor]](), tmp_path / "run"
    spoil(monkeypatch, BAD.__contains__, SPOILS[how], seen)
    said = elman("train", "text", file, "--out", run, *TRAIN, "--optimizer", optimizer, "--on-nan", "skip")
    assert said.code == 0, said.err
    unchanged = [step for step in range(2, len(seen) + 1) if same(seen[step - 1], seen[step - 2])]
    assert unchanged == list(BAD)
    assert "Skipped 4 steps of 89, whose loss or gradient was not finite (--on-nan skip)" in said.err
    assert json.loads((run / "config.json").read_text())["ended"]["skipped"] == 4
    assert "of which 4 were skipped because" in " ".join(elman("info", run).out.split())
    with (run / "metrics.csv").open() as table:
        rows = {int(row["step"]): row["train_loss"] for row in csv.DictReader(table) if not row["val_loss"]}
    assert (rows[30] == "") == (how != "gradient")
    assert rows[20] != ""
    assert "nan" not in (run / "metrics.csv").read_text()
    assert "loss nan" not in said.err


def test_a_skipped_step_changes_no_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of batch normalization, whose running means of a series with infinity would be so for good."""
    data, options = DATA["series"]
    seen = list[list[Tensor]]()
    spoil(monkeypatch, (2, 5).__contains__, SPOILS["nan"], seen)
    normalize = StepNorm.forward

    def infinite(self: StepNorm, x: Tensor, *mask: Any) -> Tensor:
        return normalize(self, x + (torch.inf if self.training and len(seen) in {1, 4} else 0), *mask)

    monkeypatch.setattr(StepNorm, "forward", infinite)
    tasks.series.fit(data, tmp_path / "run", epochs=1, hidden=4, accelerator="cpu", on_nan="skip", **options)
    unchanged = [step for step in range(2, len(seen) + 1) if same(seen[step - 1], seen[step - 2])]
    assert unchanged == [2, 5]
    assert all(tensor.isfinite().all() for tensor in seen[-1])


@pytest.mark.slow
def test_a_training_that_skips_is_resumed_exactly(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda step: step % 7 == 3, SPOILS["nan"])
    train = ["train", "text", file, *TRAIN, "--on-nan", "skip", "--flow-every", 3]
    assert elman(*train, "--out", tmp_path / "whole").code == 0
    step = CheckpointCallback.on_train_batch_end

    def interrupted(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == 45:  # which is skipped
            signal.raise_signal(signal.SIGINT)
        step(self, trainer, *rest)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "on_train_batch_end", interrupted)
        assert elman(*train, "--out", run).code == 130
    assert progress(run / "checkpoints/last.ckpt").skipped == 7
    assert elman("train", "text", "--resume", run).code == 0
    for name in ("model.safetensors", "flow.csv"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ended = [json.loads((path / "config.json").read_text())["ended"]["skipped"] for path in (run, tmp_path / "whole")]
    assert ended == [13, 13]


@pytest.mark.sample(1)
@pytest.mark.parametrize("how", SPOILS)
def test_a_training_that_skips_all_steps_stops(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    run = tmp_path / "run"
    spoil(monkeypatch, lambda step: step >= 20 and step != 25, SPOILS[how])
    said = elman("train", "text", file, "--out", run, *TRAIN, "--on-nan", "skip")
    what = {"nan": "the loss is nan", "inf": "the loss is inf", "gradient": "a gradient is not finite"}[how]
    failed(said, f"{MAX_SKIPPED} steps in a row were skipped: {what} at step {25 + MAX_SKIPPED}, with --lr")


def test_a_training_that_stopped_can_go_on_and_skip(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    spoil(monkeypatch, BAD.__contains__, SPOILS["nan"])
    failed(elman("train", "text", file, "--out", run, *TRAIN), "the loss is nan at step 5, with --lr")
    assert elman("train", "text", "--resume", run, "--on-nan", "skip").code == 0
    config = json.loads((run / "config.json").read_text())
    assert (config["training"]["on_nan"], config["ended"]["skipped"], config["diverged"]) == ("skip", 4, None)
    refused(elman("train", "text", file, "--on-nan", "ignore"), "--on-nan", "stop or skip", "'ignore'")


def test_a_validation_loss_is_not_skipped(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(plan: TrainingPlan) -> Any:
        model: Any = plan.model

        def spoiled(batch: Any, state: Any) -> Any:
            total, count, state = model.loss(batch, state)
            return total if model.training else total * torch.nan, count, state

        return spoiled

    monkeypatch.setattr(TrainingPlan, "loss", property(loss))
    said = elman("train", "text", file, "--out", tmp_path / "run", *TRAIN, "--on-nan", "skip")
    failed(said, "the validation loss is nan after step 89")


@pytest.mark.slow
@pytest.mark.parametrize("task", DATA)
def test_every_task_skips(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, options = DATA[task]
    fit: Any = getattr(tasks, task).fit
    spoil(monkeypatch, lambda step: step == 2, SPOILS["nan"])
    trained = fit(data, tmp_path / "run", hidden=4, batch=4, epochs=2, on_nan="skip", **options)
    assert trained.run.config["ended"]["skipped"] == 1
    assert all(bool(np.isfinite(p.detach().numpy()).all()) for p in trained.model.parameters())
