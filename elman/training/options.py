"""Training options, the same for every task."""

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import Field, field_validator

from elman.options import Accelerator, Options, Real, Whole

# Defaults if neither epochs nor minutes are given: train until validation stops improving.
PATIENCE = 5  # validations without improvement before training ends; tasks with long epochs may use fewer
LIMIT = 60.0  # maximum training time in minutes
HOLD = 0.8  # fraction of the epochs or minutes after which "plateau" starts the decay without a plateau
MAX_SKIPPED = 10  # steps in a row without a finite loss and gradient after which training ends
Optimizer = Literal["adamw", "adam", "rmsprop", "sgd"]
OPTIMIZERS: dict[Optimizer, float] = {
    "adamw": 6e-3,
    "adam": 6e-3,
    "rmsprop": 2e-3,
    "sgd": 1.0,
}  # default learning rates
WEIGHT_DECAY: dict[Optimizer, float] = {"adamw": 0.01, "adam": 0.0, "rmsprop": 0.0, "sgd": 0.0}  # torch's defaults


class TrainingOptions(Options):
    """Training length, optimizer, learning rate, clipping and random seed.

    Attributes:
        epochs: maximum number of passes over the data; None for no limit.
        minutes: maximum wall-clock time of training and validation; None for no limit. If both are set, training ends
            at whichever limit is reached first.
        optimizer: a name in `OPTIMIZERS`.
        lr: the peak learning rate; None for the default of the optimizer.
        weight_decay: as torch's optimizers take it: decoupled from the gradient with adamw, else an L2 penalty. None
            for the default of torch: 0.01 with adamw, else 0.
        schedule: "cosine" decays the learning rate to zero over the epochs or minutes; "constant" does not change it.
            "plateau" keeps it until validation stops improving; then training returns to the best weights, and the
            learning rate decays to zero over half as many steps as were trained before. If there is no plateau in the
            first 80 % of the epochs or minutes, it decays over the rest.
        clip: the maximum gradient norm; larger gradients are scaled down to it. 0 disables clipping.
        patience: number of validations without improvement after which training ends, or with "plateau" the decay
            begins; 0 disables early stopping.
        average: fraction of the steps so far, over which a moving average of the weights is taken; see
            `elman.training.module.moving_average`. It is validated and kept in place of the weights; 0: no average.
        init_from: a run folder, whose weights the training starts from (fine-tuning); None for random weights. The
            codec is that of the run, and so are the options of the task that are not passed.
        seed: random seed for weights, dropout and the data split.
        flow_every: number of steps between gradient-flow recordings; 0 disables them.
        accelerator: where the model is trained, see `elman.training.devices.find_device`.
        devices: number of devices on each machine, each with a process of its own that trains on its part of the data.
        nodes: number of machines.
        strategy: how several devices share a model: with "ddp", each has all of it; with "fsdp", a part of its weights
            and of the optimizer's state, and the weights are gathered for each step.
        on_nan: "stop" ends the training at a loss or gradient that is not finite. "skip" leaves the step out:
            parameters and the state of the optimizer do not change. It ends the training, too, after `MAX_SKIPPED` such
            steps in a row, or at a validation loss that is not finite.
        precision: "32" computes in float32; "bf16" and "16" compute matrix products in half precision by autocast, with
            weights in float32. "16" scales losses, and needs a GPU.
    """

    epochs: Annotated[
        Real | None,
        Field(gt=0, description="Epochs; with --minutes too, whichever comes first."),
        typer.Option(show_default=False),
    ] = None
    minutes: Annotated[
        Real | None,
        Field(gt=0, description="Training time."),
        typer.Option(show_default=f"at most {LIMIT:g}, until validation stops improving"),
    ] = None
    optimizer: Annotated[Optimizer, Field(description="Optimizer")] = "adamw"
    lr: Annotated[
        Real | None, Field(gt=0, le=1e37, description="Peak learning rate."), typer.Option(show_default="by optimizer")
    ] = None
    weight_decay: Annotated[
        Real | None, Field(ge=0, description="Weight decay."), typer.Option(show_default="by optimizer")
    ] = None
    schedule: Annotated[Literal["cosine", "constant", "plateau"], Field(description="Learning rate schedule")] = (
        "cosine"
    )
    clip: Annotated[Real, Field(ge=0, description="Gradient clipping: maximum norm; 0: none.")] = 1.0
    patience: Annotated[
        Whole,
        Field(
            ge=0,
            description="Early stopping: validations without improvement; with plateau, until decay begins; 0: never.",
        ),
    ] = 0
    average: Annotated[
        Real,
        Field(
            ge=0,
            le=1,
            description="Keep a moving average of the weights, over about this fraction of the steps so far; 0: none.",
        ),
    ] = 0.0
    init_from: Annotated[
        str | None,
        Field(description="Start from the weights of this run, with its options of the task."),
        typer.Option(metavar="RUN", show_default=False),
    ] = None
    seed: Annotated[Whole, Field(ge=0, description="Random seed for weights, dropout and the data split.")] = 0
    flow_every: Annotated[
        Whole, Field(ge=0, description="Record the gradient flow in flow.csv every this many steps; 0: never.")
    ] = 0
    on_nan: Annotated[
        Literal["stop", "skip"],
        Field(description="If a loss or gradient is not finite: stop, or skip the step."),
    ] = "stop"
    accelerator: Accelerator = "auto"
    devices: Annotated[
        Whole,
        Field(
            ge=1,
            description="Devices on each machine: GPUs, or processes on the CPU. Each has a batch of its own.",
        ),
    ] = 1
    nodes: Annotated[
        Whole,
        Field(
            ge=1,
            description="Number of machines. Run the same command on each, with NODE_RANK, MASTER_ADDR and MASTER_PORT "
            "in its environment.",
        ),
    ] = 1
    strategy: Annotated[
        Literal["ddp", "fsdp"],
        Field(description="On several devices, ddp has the whole model on each, fsdp a part of its weights"),
    ] = "ddp"
    precision: Annotated[
        Literal["32", "bf16", "16"],
        Field(
            description="Precision: 32, bf16, 16. bf16 and 16 use half precision where torch's autocast does; 16 needs "
            "a GPU."
        ),
    ] = "32"

    @field_validator("precision", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Convert the numbers 32 and 16 to names."""
        return str(value) if type(value) is int else value

    @field_validator("init_from", mode="before")
    @classmethod
    def _as_absolute(cls, value: Any) -> Any:
        """Convert a path to an absolute one, found from any working directory."""
        return str(Path(value).absolute()) if isinstance(value, str | os.PathLike) else value

    @property
    def until_converged(self) -> bool:
        """True if early stopping ends the training, with epochs and minutes as upper limits."""
        return self.patience > 0 and self.schedule != "cosine"

    @property
    def smaller_lr(self) -> float:
        """A learning rate to try after a diverged training: a tenth, at most the default of the optimizer.

        >>> TrainingOptions(lr=1e6).smaller_lr
        0.006
        """
        return min(self.lr_at(0) / 10, OPTIMIZERS[self.optimizer])

    def lr_at(self, done: float) -> float:
        """Return the learning rate at a point of the training.

        Args:
            done: completed fraction of the training, from 0 to 1.

        >>> TrainingOptions(lr=1.0).lr_at(0.5)
        0.5
        """
        peak = self.lr if self.lr is not None else OPTIMIZERS[self.optimizer]
        if self.schedule == "cosine":
            return peak * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return peak if self.schedule == "constant" else peak * min((1 - done) / (1 - HOLD), 1.0)
