"""Convergence criterion: early stopping in validations and steps, never in seconds."""

import math
from typing import Any

ANNEALING = 0.5  # length of the learning rate decay, as a fraction of the steps before it
MIN_STEPS = 400  # minimum length of a plateau and of the decay, since an epoch of tiny data is a single step

# Minimum relative improvement of a new best that postpones the decay, since some losses keep falling by less. A loss
# near zero keeps falling by a larger fraction of itself, so below FLOOR the improvement is relative to FLOOR.
MIN_GAIN, FLOOR = 1e-4, 0.1


class Convergence:
    """Early stopping, preceded by a decay of the learning rate if the schedule is "plateau".

    A plateau is reached after `patience` validations in a row without a new best loss. With other schedules, training
    has then converged. With "plateau", improvements of less than 0.01 % (`MIN_GAIN`), or of less than 0.00001 if the
    loss is below 0.1 (`FLOOR`), do not count. At the plateau, training returns to the best weights and the learning
    rate decays to zero over half as many steps as were trained before (`ANNEALING`); then training has converged.

    The result depends on losses and steps only, so that slow and fast machines end with the same weights.

    Args:
        patience: number of validations without improvement; 0 never stops.
        anneal: whether the schedule is "plateau".

    >>> convergence = Convergence(patience=2, anneal=True)
    >>> [convergence.validated(loss, step) for step, loss in [(400, 1.5), (800, 1.2), (1200, 1.3), (1600, 1.4)]]
    [False, False, False, True]
    >>> [convergence.decayed(step) for step in (1600, 2000, 2400)]
    [0.0, 0.5, 1.0]
    """

    def __init__(self, patience: int, anneal: bool) -> None:
        self.patience, self._anneal = patience, anneal
        self.waited = 0  # validations since the best
        self.decay: tuple[int, int] | None = None  # its first and last step
        self._stopped = False  # converged without a decay
        self._best, self._best_step = math.inf, 0
        self._start = 0  # the step since which the learning rate has been at its peak

    def validated(self, loss: float, step: int, may_decay: bool = True) -> bool:
        """Record the loss of a validation.

        Args:
            loss: the validation loss.
            step: number of training steps before this validation.
            may_decay: whether a decay may begin; False if the end of the budget has already started one.

        Returns:
            True if the decay begins now; the caller then restores the best weights.
        """
        gain = MIN_GAIN * max(abs(self._best), FLOOR) if self._anneal and self._best < math.inf else 0.0
        if loss < self._best - gain:
            self._best, self._best_step, self.waited = loss, step, 0
            return False
        self.waited += 1
        if not self.patience or self.waited < self.patience:
            return False
        if not self._anneal:
            self._stopped = True
            return False
        if self.decay or not may_decay or step - max(self._best_step, self._start) < MIN_STEPS:
            return False
        self.decay = step, step + max(round(ANNEALING * (step - self._start)), MIN_STEPS)
        return True

    def decayed(self, step: int) -> float | None:
        """Return the completed fraction of the decay, from 0 to 1; None before it begins."""
        if self.decay is None:
            return None
        first, last = self.decay
        return min((step - first) / (last - first), 1.0)

    def reached(self, step: int) -> bool:
        """Return whether training has converged."""
        return self._stopped or self.decayed(step) == 1.0

    def restart(self, step: int) -> None:
        """Continue a converged training at the full learning rate until the next plateau."""
        self.waited, self.decay, self._stopped, self._start = 0, None, False, step

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("patience", "_anneal")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
