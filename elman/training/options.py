"""What can be asked of a training, the same for every task."""

import math
from dataclasses import dataclass
from typing import Annotated

from elman.options import choice, positive, real, whole

# Where neither epochs nor minutes are given, training goes on until validation stops improving:
PATIENCE = 5  # validations without a new best that end it; a task whose epochs are long may have fewer
LIMIT = 60.0  # minutes that it takes at most
HOLD = 0.8  # share of the epochs or minutes at which "plateau" lowers the learning rate if there was no plateau yet
OPTIMIZERS = {"adamw": 6e-3, "adam": 6e-3, "rmsprop": 2e-3, "sgd": 1.0}  # and the learning rate each begins with
SCHEDULES = ("cosine", "constant", "plateau")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How long, how fast and by what rule.

    Attributes:
        epochs: passes over the data; None for no bound.
        minutes: wall-clock time of training and validation; None for no bound. With both, what is reached first ends
            the training.
        optimizer: a name in `OPTIMIZERS`.
        lr: the learning rate at its highest; None for the optimizer's own.
        schedule: "cosine" takes the learning rate down to zero over the epochs or minutes, "constant" leaves it.
            "plateau" keeps it until validation stops improving; then training returns to the best weights and the
            learning rate falls to zero over half as many steps again. If there is no plateau in the first 80 % of the
            epochs or minutes, it falls over the rest of them.
        clip: the norm that gradients are scaled down to; 0 for never.
        patience: validations without a new best after which training ends, or with "plateau" the learning rate begins
            to fall; 0 for never.
        seed: of the initial weights, of dropout, and of the split of the data where that is drawn.
        flow_every: steps from one look at the gradient's way back through time to the next; 0 for never.
    """

    epochs: Annotated[
        float | None,
        positive("Epochs; with --minutes too, whichever comes first.", show_default=False),
    ] = None
    minutes: Annotated[
        float | None,
        positive("Training time.", show_default=f"at most {LIMIT:g}, until validation stops improving"),
    ] = None
    optimizer: Annotated[str, choice("Optimizer", OPTIMIZERS)] = "adamw"
    lr: Annotated[float | None, positive("Peak learning rate.", 1e37, show_default="by optimizer")] = None
    schedule: Annotated[str, choice("Learning rate schedule", SCHEDULES)] = "cosine"
    clip: Annotated[float, real("Gradient clipping: largest norm; 0: none.", 0)] = 1.0
    patience: Annotated[
        int,
        whole("Early stopping: validations without a new best; with plateau, until decay begins; 0: never.", 0),
    ] = 0
    seed: Annotated[int, whole("Random seed for weights, dropout and the data split.", 0)] = 0
    flow_every: Annotated[int, whole("Record the gradient flow in flow.csv every this many steps; 0: never.", 0)] = 0

    @property
    def until_converged(self) -> bool:
        """Whether training is meant to end when validation stops improving, and epochs and minutes are limits."""
        return self.patience > 0 and self.schedule != "cosine"

    def lr_at(self, done: float) -> float:
        """The learning rate when this share (0 to 1) of the training is done.

        >>> TrainingOptions(lr=1.0).lr_at(0.5)
        0.5
        """
        peak = self.lr if self.lr is not None else OPTIMIZERS[self.optimizer]
        if self.schedule == "cosine":
            return peak * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return peak if self.schedule == "constant" else peak * min((1 - done) / (1 - HOLD), 1.0)
