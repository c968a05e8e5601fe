"""What can be asked of a training, the same for every task."""

import math
from dataclasses import dataclass

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
        seed: of the initial weights and of dropout.
        flow_every: steps from one look at the gradient's way back through time to the next; 0 for never.
    """

    epochs: float | None = None
    minutes: float | None = None
    optimizer: str = "adamw"
    lr: float | None = None
    schedule: str = "cosine"
    clip: float = 1.0
    patience: int = 0
    seed: int = 0
    flow_every: int = 0

    def lr_at(self, done: float) -> float:
        """The learning rate when this share (0 to 1) of the training is done.

        >>> TrainingOptions(lr=1.0).lr_at(0.5)
        0.5
        """
        peak = self.lr if self.lr is not None else OPTIMIZERS[self.optimizer]
        return peak if self.schedule == "constant" else peak * (1 + math.cos(math.pi * min(done, 1.0))) / 2
