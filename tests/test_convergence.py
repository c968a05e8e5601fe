"""Where no length is given, training goes on until validation stops improving, however fast the machine is."""

import io
import json
import re
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from elman.data.batches import RepeatedEpoch
from elman.errors import BadInput
from elman.io.run_folder import LAST, Run
from elman.tasks import text
from elman.training import callbacks, checkpoints
from elman.training.callbacks import Interrupted, TimeBudget
from elman.training.convergence import ANNEALING, MIN_GAIN, MIN_STEPS, Convergence
from elman.training.module import TaskModule
from elman.training.options import TrainingOptions
from elman.training.trainer import Outcome, fit
from tests.small import EPOCH, RUN, SMALL, Command
from tests.small import text as small_text
from tests.test_bad_input import refused
from tests.test_resume import interrupt_at

PER_EPOCH = 100
OPTIONS = TrainingOptions(minutes=60.0, optimizer="sgd", lr=0.01, schedule="plateau", patience=4, clip=0.0)


class Line(nn.Module):
    """A line through noisy points: the noise of its gradient keeps it off the best until the learning rate falls."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.line = nn.Sequential(nn.Dropout(dropout), nn.Linear(4, 1))

    def loss(self, batch: Any, state: Any) -> tuple[Tensor, int, Any]:
        x, y = batch
        return (self.line(x) - y).square().sum(), len(y), None


@dataclass
class Points:
    """What the training room is given."""

    model: Line = field(default_factory=Line)
    unit = "points"

    def __post_init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(PER_EPOCH + 25, 2, 4, generator=draw)
        y = x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]]) + torch.randn(*x.shape[:2], 1, generator=draw)
        batches = list(zip(x, y, strict=True))
        self.train, self.validation = RepeatedEpoch(batches[:PER_EPOCH]), RepeatedEpoch(batches[PER_EPOCH:])
        self.loss = self.model.loss

    def with_model(self, model: Any) -> "Points":
        return Points(model)


def train(
    path: Path,
    options: TrainingOptions = OPTIONS,
    resume: bool = False,
    longer: bool = False,
    dropout: float = 0.0,
) -> Outcome:
    torch.manual_seed(0)
    run = Run(path, RUN)
    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    return fit(Points(Line(dropout)), options, run, Console(quiet=True), time.monotonic(), resume, longer)


def metrics(path: Path) -> pl.DataFrame:
    return pl.read_csv(path / "metrics.csv", infer_schema_length=None).drop("seconds")


def weights(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A training that converged undisturbed."""
    path = tmp_path_factory.mktemp("converged") / "run"
    return path, train(path)


def plateau(path: Path) -> int:
    """The step at which the learning rate began to fall."""
    full = metrics(path).filter(pl.col("lr") == OPTIONS.lr)
    return int(full["step"].max())  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_plateau_lowers_the_learning_rate_and_ends_the_training(whole: tuple[Path, Outcome]) -> None:
    path, outcome = whole
    rows = metrics(path)
    validations = rows.drop_nulls("val_loss")
    before = validations.filter(pl.col("step") <= plateau(path) + 1)["val_loss"].to_list()
    earlier, best, *waited = before[-6:]
    assert best < earlier * (1 - MIN_GAIN)
    assert min(waited) > best * (1 - MIN_GAIN)
    start = PER_EPOCH * len(before)
    assert outcome.limit is None
    assert outcome.steps == start + max(round(ANNEALING * start), MIN_STEPS)
    falling = rows.filter(pl.col("step") > start)["lr"].drop_nulls().to_list()
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 0.1 * OPTIONS.lr_at(0)
    assert outcome.best == pytest.approx(validations["val_loss"].min(), abs=1e-5)
    assert outcome.best < 0.99 * min(before)  # the decay is worth its time


@pytest.mark.parametrize("average", [0.0, 0.5])
@pytest.mark.slow
def test_the_decay_begins_with_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float
) -> None:
    original, seen = TimeBudget.on_validation_end, []

    def looking(self: TimeBudget, trainer: Any, module: Any) -> None:
        before = module.model.line[1].weight.clone()
        was_decaying = self.convergence.decay is not None
        original(self, trainer, module)
        if self.convergence.decay and not was_decaying:
            best = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
            seen.append((before, module.model.line[1].weight.clone(), best["state_dict"]["model.line.1.weight"]))
            name = "averaged.module.line.1.weight"
            assert not average or torch.equal(module.state_dict()[name], best["state_dict"][name])
            assert best["global_step"] < trainer.global_step

    monkeypatch.setattr(TimeBudget, "on_validation_end", looking)
    train(tmp_path / "run", OPTIONS.model_copy(update={"lr": 0.05, "average": average}), dropout=0.5)
    [(before, after, best)] = seen
    assert torch.equal(after, best)
    assert not torch.equal(after, before)


@pytest.mark.slow
def test_a_slow_machine_ends_with_the_same_weights(
    whole: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, outcome = whole
    now = time.monotonic()
    slow = SimpleNamespace(monotonic=lambda: now + 20 * (time.monotonic() - now))  # every second takes twenty
    monkeypatch.setattr(callbacks, "time", slow)
    assert train(tmp_path / "run").steps == outcome.steps
    assert metrics(tmp_path / "run").equals(metrics(path))
    assert weights(tmp_path / "run") == weights(path)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_weights_that_are_kept_are_a_moving_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    seen = list[Tensor]()
    original = TaskModule.optimizer_step

    def looking(self: TaskModule, *arguments: Any, **keywords: Any) -> None:
        original(self, *arguments, **keywords)
        seen.append(self.model.get_parameter("line.1.weight").detach().clone())

    monkeypatch.setattr(TaskModule, "optimizer_step", looking)
    options = OPTIONS.model_copy(update={"epochs": 1.0, "schedule": "constant", "average": share})
    outcome = train(tmp_path / "run", options)
    expected = seen[0].double()
    for step, weights_of_step in enumerate(seen[1:], 2):
        expected += (weights_of_step - expected) / (1 + share * (step - 1))
    if share == 1:
        torch.testing.assert_close(expected, torch.stack(seen).double().mean(0))
    kept = load_file(tmp_path / "run/model.safetensors")
    torch.testing.assert_close(kept["line.1.weight"].double(), expected, rtol=0, atol=1e-6)
    assert {name: tensor.tolist() for name, tensor in checkpoints.weights(tmp_path / "run" / LAST).items()} == {
        name: tensor.tolist() for name, tensor in kept.items()
    }
    model = Line().eval()
    model.load_state_dict(kept)
    losses = [model.loss(batch, None) for batch in Points().validation]
    assert outcome.best == pytest.approx(sum(loss.item() for loss, *_ in losses) / sum(n for _, n, _ in losses))


def test_a_checkpoint_has_the_average_and_nothing_else(tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"epochs": 1.0, "average": 0.5})
    train(tmp_path / "run", options)
    run = Run(tmp_path / "run", RUN)
    module = TaskModule(Points(), options)
    assert checkpoints.check(run, module, module.configure_optimizers()).steps == PER_EPOCH
    without = TaskModule(Points(), OPTIONS)
    with pytest.raises(BadInput, match=r"last.ckpt: expected no tensor averaged"):
        checkpoints.check(run, without, without.configure_optimizers())
    train(tmp_path / "other", OPTIONS.model_copy(update={"epochs": 1.0}))
    with pytest.raises(BadInput, match=r"last.ckpt: expected averaged\..* of shape .*, got none"):
        checkpoints.check(Run(tmp_path / "other", RUN), module, module.configure_optimizers())


@pytest.mark.parametrize("where", [-50, 50])
def test_an_interrupted_average_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: int) -> None:
    options = OPTIONS.model_copy(update={"epochs": 3.0, "average": 0.2})
    train(tmp_path / "whole", options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, PER_EPOCH + where, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted):
            train(tmp_path / "run", options)
    (tmp_path / "run/model.safetensors").unlink()  # the process may die before it is written
    train(tmp_path / "run", options, resume=True)
    assert metrics(tmp_path / "run").equals(metrics(tmp_path / "whole"))
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize(
    "where", [-150, 1, 50]
)  # while it waits, just after the best weights were put back, in the decay
@pytest.mark.slow
def test_an_interrupted_training_converges_as_an_uninterrupted_one(
    whole: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: int
) -> None:
    path, outcome = whole
    step = plateau(path) // PER_EPOCH * PER_EPOCH + PER_EPOCH + where
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted):
            train(tmp_path / "run")
    assert len(metrics(tmp_path / "run")) < len(metrics(path))
    assert train(tmp_path / "run", resume=True).steps == outcome.steps
    assert metrics(tmp_path / "run").equals(metrics(path))
    assert weights(tmp_path / "run") == weights(path)


@pytest.mark.slow
def test_a_converged_training_can_be_made_longer(whole: tuple[Path, Outcome], tmp_path: Path) -> None:
    path, outcome = whole
    run = Path(shutil.copytree(path, tmp_path / "run"))
    longer = train(run, resume=True, longer=True)
    later = metrics(run).filter(pl.col("step") > outcome.steps)["lr"].drop_nulls().to_list()
    assert longer.limit is None
    assert later[0] == OPTIONS.lr
    assert later[-1] < 0.1 * OPTIONS.lr_at(0)
    assert longer.best <= outcome.best


def test_epochs_without_a_plateau_end_with_a_decay_and_say_so(tmp_path: Path) -> None:
    outcome = train(tmp_path / "run", OPTIONS.model_copy(update={"epochs": 2.0, "minutes": None}))
    rates = {row["step"]: row["lr"] for row in metrics(tmp_path / "run").drop_nulls("lr").iter_rows(named=True)}
    assert (outcome.steps, outcome.limit) == (2 * PER_EPOCH, "epochs")
    assert rates[160] == OPTIONS.lr
    assert rates[190] == pytest.approx(OPTIONS.lr_at(0) * 11 / 40)  # after 189 of 200 steps, the last 40 of which decay


def test_patience_alone_counts_every_new_best_and_stops_without_a_decay() -> None:
    convergence = Convergence(2, anneal=False)
    reached = []
    for step, loss in enumerate([3.0, 2.0, 2.5, 1.99999, 2.0, 2.1]):
        assert not convergence.validated(loss, step)
        reached.append(convergence.reached(step))
    assert reached == [False, False, False, False, False, True]


def test_another_patience_when_resumed_holds() -> None:
    before, after = Convergence(5, anneal=False), Convergence(2, anneal=False)
    before.validated(1.0, 10)
    before.validated(2.0, 20)
    after.load_state_dict(before.state_dict())
    assert not after.reached(20)
    after.validated(2.0, 30)
    assert after.reached(30)


def test_a_loss_that_falls_towards_zero_for_ever_converges() -> None:
    """As that of labels which are all predicted right: it loses the same share of itself in every epoch."""
    convergence = Convergence(5, anneal=True)
    starts = [epoch for epoch in range(1000) if convergence.validated(0.9**epoch, 10 * epoch)]
    assert starts == [162]  # from epoch 122 on all that is left is less than 0.00001; 40 epochs have 400 steps


def test_tiny_data_are_not_given_up_after_a_few_steps() -> None:
    convergence = Convergence(3, anneal=True)  # validated after every step, as the whole of them are one batch
    assert not any(convergence.validated(1.0, step) for step in range(1, MIN_STEPS + 1))
    assert convergence.validated(1.0, MIN_STEPS + 1)
    assert convergence.decay == (MIN_STEPS + 1, 2 * MIN_STEPS + 1)


@pytest.mark.slow
def test_by_default_a_training_converges(elman: Command, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("ab" * 500)
    run = tmp_path / "run"
    said = elman("train", "text", tmp_path / "text.txt", "--out", run, *SMALL, "--hidden", 2, "--lr", 0.5)
    assert said.code == 0
    assert "reached its limit" not in said.err
    config = json.loads((run / "config.json").read_text())
    assert {name: config["training"][name] for name in ("schedule", "patience", "minutes", "epochs")} == {
        "schedule": "plateau", "patience": 3, "minutes": 60.0, "epochs": None,
    }  # fmt: skip
    assert config["ended"]["limit"] is None
    assert metrics(run)["lr"].drop_nulls()[-1] < 0.05


@pytest.mark.sample(1)
@pytest.mark.parametrize(("epochs", "limit", "longer"), [(0.5, "0.5 epochs", "1"), (1, "1 epoch", "2")])
def test_a_limit_that_ends_an_improving_training_is_told_with_how_to_go_on(
    elman: Command, file: Path, tmp_path: Path, epochs: float, limit: str, longer: str
) -> None:
    run, how = tmp_path / "run", ("--epochs", epochs, "--schedule", "plateau", "--patience", 2)
    said = elman("train", "text", file, "--out", run, *SMALL, *how)
    line = (
        f"Training reached its limit of {limit} before validation stopped improving; to train longer: "
        f"elman train text --resume {run} --epochs {longer}"
    )
    assert said.err.splitlines()[-1] == line
    assert "".join(line.split()) in "".join(elman("info", run).out.split())  # however it is folded
    assert elman(*re.split(" ", line.partition("elman ")[2])).code == 0
    assert json.loads((run / "config.json").read_text())["ended"]["steps"] == round(EPOCH * 2 * epochs)


def test_in_python_the_limit_is_a_warning(tmp_path: Path) -> None:
    how: dict[str, Any] = {"hidden": 2, "embed": 2, "batch": 4, "bptt": 10, "schedule": "plateau", "patience": 2}
    with pytest.warns(ConvergenceWarning, match="limit of 0.2 epochs before validation stopped improving"):
        text.fit(io.StringIO(small_text()), tmp_path / "run", epochs=0.2, **how)


def test_cosine_needs_a_length(elman: Command, file: Path) -> None:
    refused(elman("train", "text", file, "--schedule", "cosine"), "--schedule cosine: expected --epochs or --minutes")
