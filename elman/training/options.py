"""What can be asked of a training, the same for every task."""

import math
from dataclasses import dataclass
from typing import Annotated

from elman.options import choice, positive, real, whole

OPTIMIZERS = {"adamw": 6e-3, "adam": 6e-3, "rmsprop": 2e-3, "sgd": 1.0}  # and the learning rate each begins with
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class TrainingOptions:
    """How long, how fast and by what rule.

    Attributes:
        epochs: passes over the data; None for no bound.
        minutes: wall-clock time of training and validation; None for no bound. With both, what is reached first ends
            the training.
        optimizer: a name in `OPTIMIZERS`.
        lr: the learning rate at its highest; None for the optimizer's own.
        schedule: "cosine" takes the learning rate down to zero over the epochs or minutes, "constant" leaves it.
        clip: the norm that gradients are scaled down to; 0 for never.
        patience: validations without a new best after which training ends; 0 for never.
        seed: of the initial weights, of dropout, and of the split of the data where that is drawn.
        flow_every: steps from one look at the gradient's way back through time to the next; 0 for never.
    """

    epochs: Annotated[
        float | None,
        positive("Passes over the data; with --minutes too, what is reached first ends it.", show_default=False),
    ] = None
    minutes: Annotated[float | None, positive("Time to train for.", show_default=False)] = None
    optimizer: Annotated[str, choice("The rule of gradient descent", OPTIMIZERS)] = "adamw"
    lr: Annotated[float | None, positive("Learning rate at its highest.", 1e37, show_default="by optimizer")] = None
    schedule: Annotated[str, choice("What the learning rate does in the course of the training", SCHEDULES)] = "cosine"
    clip: Annotated[float, real("Norm that gradients are scaled down to; 0 for never.", 0)] = 1.0
    patience: Annotated[int, whole("Validations without a new best before giving up; 0 for never.", 0)] = 0
    seed: Annotated[int, whole("Of the weights at the start, of dropout, and of the split of the data.", 0)] = 0
    flow_every: Annotated[
        int, whole("Steps between two looks at the gradient's way back through time, into flow.csv; 0 for never.", 0)
    ] = 0

    def lr_at(self, done: float) -> float:
        """The learning rate when this share (0 to 1) of the training is done.

        >>> TrainingOptions(lr=1.0).lr_at(0.5)
        0.5
        """
        peak = self.lr if self.lr is not None else OPTIMIZERS[self.optimizer]
        return peak if self.schedule == "constant" else peak * (1 + math.cos(math.pi * min(done, 1.0))) / 2
