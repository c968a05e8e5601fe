"""A training that diverges says where the first value was made that is no number, and what helps."""

import math
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import elman
from elman.bptt import RTRL
from elman.io.run_folder import new_run
from elman.training.diverged import Diverged
from elman.training.options import TrainingOptions
from elman.training.trainer import fit
from tests.small import RUN

T, B, D, H = 6, 3, 4, 5
BATCHES = 4
OPTIONS = TrainingOptions(epochs=1, optimizer="sgd", lr=1e-9, schedule="constant", clip=0.0)
Loss = Callable[[Tensor, Tensor], Tensor]


def last(outputs: Tensor, h: Tensor) -> Tensor:
    return outputs[-1].sum()


class Batches:
    """Some of ones; a list Lightning would take for several loaders."""

    def __init__(self, count: int = BATCHES) -> None:
        self.all = [torch.ones(T, B, D) for _ in range(count)]

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, index: int) -> Tensor:
        return self.all[index]


class Lesson:
    """A relu layer that takes what it is given times `grows`, and something of the outputs and the last state."""

    unit = "steps"

    def __init__(self, loss: Loss = last, grows: float = 0.5) -> None:
        self.layer: elman.Stack = elman.RNN(D, H, nonlinearity="relu")
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.zero_()
            self.layer.get_parameter("weight_ih_l0").fill_(1.0)
            self.layer.get_parameter("weight_hh_l0").copy_(grows * torch.eye(H))
        self.model: nn.Module = nn.ModuleDict({"reader": self.layer})
        self.train: Any = Batches()
        self.validation: Any = Batches()
        self._loss = loss

    def with_model(self, model: Any) -> "Lesson":
        """See `Trainable`."""
        other = copy(self)
        other.model, other.layer = model, model["reader"]
        return other

    def loss(self, batch: Tensor, state: Tensor | None) -> tuple[Tensor, int, Any]:
        """See `Trainable`."""
        outputs, h = self.layer(batch, state)
        return self._loss(outputs, h), T * B, h


def diverges(task: Any, path: Path, options: TrainingOptions = OPTIONS) -> Diverged:
    with new_run(path / "run", RUN) as run:
        console = Console(quiet=True)
        with pytest.raises(Diverged) as raised:
            fit(task, options, run, console, 0.0)
    assert all(parameter.isfinite().all() for parameter in task.model.parameters())  # nothing is spoiled
    return raised.value


def test_a_loss_that_explodes(tmp_path: Path) -> None:
    task = Lesson(grows=1e10)
    task.train[0][:, [0, 2]] = 0.0
    error = diverges(task, tmp_path, OPTIONS)
    assert str(error).startswith(
        "the loss is nan at step 1, with --lr 1e-09 and --clip 0. non-finite: reader.h_l0 is not finite at step 4 of "
        "sequence 1, produced by "
    )
    remedies = "a smaller learning rate (--lr 1e-10); clipping (--clip 1); --cell lstm or --cell gru; a shorter --bptt"
    assert str(error).endswith(f" Try {remedies}.")
    assert error.verdict is not None
    assert error.verdict.kinds == ("non-finite",)
    assert error.verdict.findings[0].name == "reader.h_l0"


def test_a_gradient_that_explodes_before_it_spoils_the_weights(tmp_path: Path) -> None:
    def loss(outputs: Tensor, h: Tensor) -> Tensor:
        return outputs[-1].sum() * 1e9

    task = Lesson(loss, grows=1e10)
    for batch in task.train.all:
        batch.fill_(0.0)
    with torch.no_grad():
        task.layer.get_parameter("bias_ih_l0").fill_(1e-30)
    error = diverges(task, tmp_path)
    assert str(error).startswith(
        "a gradient is not finite at step 1, with --lr 1e-09 and --clip 0. non-finite: the gradient of reader.h_l0 is "
    )
    assert "not finite at step 1 of sequence 0, produced by " in str(error)


def test_a_state_that_came_in_so(tmp_path: Path) -> None:
    """The loss of the first batch does not see that its last state is infinite."""
    task = Lesson(lambda outputs, h: outputs[:1].sum())
    task.train[0][-1, 2] = 3e38
    error = diverges(task, tmp_path)
    assert str(error).startswith("the loss is ")
    assert "reader.h_l0 is not finite in the initial state of sequence 2. Try" in str(error)


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_a_validation_that_explodes(tmp_path: Path, average: float) -> None:
    task = Lesson()
    task.validation[1][3, 2] = math.nan
    error = diverges(task, tmp_path, OPTIONS.model_copy(update={"average": average}))
    assert str(error).startswith("the validation loss is nan after step 4, with --lr 1e-09")
    assert "the input of the cell of reader.h_l0 is not finite at step 3 of sequence 2." in str(error)


def test_what_is_drawn_is_drawn_again(tmp_path: Path) -> None:
    """A batch diverges by chance: one element of a hundred that dropout may take."""
    task = Lesson()
    task.train = Batches(400)
    loss = task.loss

    def sometimes(batch: Tensor, state: Tensor | None) -> tuple[Tensor, int, Any]:
        return loss(batch * (math.nan if torch.rand(()) < 0.02 else 1.0), state)

    task.loss = sometimes  # type: ignore[method-assign]
    error = diverges(task, tmp_path)
    assert error.verdict is not None
    assert error.verdict.kinds == ("non-finite",)


@pytest.mark.parametrize("what", ["beside", "no layer", "RTRL"])
def test_where_nothing_can_be_seen(what: str, tmp_path: Path) -> None:
    task = Lesson(lambda outputs, h: outputs.sum() * 0 + torch.exp(outputs.detach().sum() + 1e4))
    if what == "no layer":
        linear = nn.Linear(D, H)
        task.model = linear
        task.loss = lambda batch, state: (linear(batch).sum() * math.nan, 1, None)  # type: ignore[method-assign]
    if what == "RTRL":
        task.layer.bptt = RTRL()
        task.train[0][3] = math.nan
    error = diverges(task, tmp_path)
    says = {"beside": "All values in the recurrent layers are finite. Try a smaller"}.get(
        what, "--clip 0. Try a smaller"
    )
    assert f"{says} learning rate (--lr 1e-10); clipping (--clip 1)" in str(error)
    assert (error.verdict is None) == (what != "beside")


def test_a_norm_that_overflows_alone_goes_on(tmp_path: Path) -> None:
    """Of finite gradients whose squares are infinite, clipping makes zeros."""
    task = Lesson(lambda outputs, h: outputs[0].sum() * 1e25)
    before = [parameter.clone() for parameter in task.layer.parameters()]
    with new_run(tmp_path / "run", RUN) as run:
        options = TrainingOptions(epochs=1, optimizer="sgd", lr=1.0, clip=1.0)
        assert fit(task, options, run, Console(quiet=True), 0.0).steps == BATCHES
    assert all(map(torch.equal, before, task.layer.parameters()))


def test_weights_whose_gradient_overflows_are_named(tmp_path: Path) -> None:
    task = Lesson(lambda outputs, h: (outputs - outputs.detach()).sum() * 1e10)
    for batch in task.train.all:
        batch.fill_(1e28)
    error = diverges(task, tmp_path)
    assert str(error).startswith("a gradient is not finite at step 1, ")
    assert "the gradient of reader.weight_hh_l0, summed from the last step back, is not finite at step 3" in str(error)


def test_advice_names_options_of_the_command_line(tmp_path: Path) -> None:
    """Not arguments of layers, the cheapest first, and other values than those that diverged."""
    task = Lesson(lambda outputs, h: outputs[-1].sum() * 1e30)
    task.layer = elman.GRU(D, H)
    task.model = nn.ModuleDict({"reader": task.layer})
    with torch.no_grad():
        for parameter in task.layer.parameters():
            parameter.zero_()
        task.layer.get_parameter("weight_hh_l0")[2 * H :] = 1e10 * torch.eye(H)
    for batch in task.train.all:
        batch.fill_(0.0)
    error = diverges(task, tmp_path, TrainingOptions(epochs=1, lr=0.5, clip=0.1))
    assert str(error).endswith(
        "Try a smaller learning rate (--lr 0.006); clipping (--clip 0.01); --cell layer_norm_gru; a shorter --bptt."
    )
