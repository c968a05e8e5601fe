"""When validation has stopped improving, counted in validations and steps, never in seconds."""

import math
from typing import Any

ANNEALING = 0.5  # length of the decay, as a share of the steps before it
MIN_STEPS = 400  # that a plateau, and the decay after it, have at least: an epoch of tiny data is a single step

# What a new best has to gain to postpone the decay, as a share of the loss: some losses fall for ever, by less. Where
# no errors are left, it falls for ever by a larger share of itself: below FLOOR, a gain has to be this share of FLOOR.
MIN_GAIN, FLOOR = 1e-4, 0.1


class Convergence:
    """Early stopping; with the schedule "plateau", after a decay of the learning rate.

    A plateau is reached after `patience` validations in a row without a new best. Without the schedule, training has
    then converged. With it, a best that gains less than 0.01 % (`MIN_GAIN`), or less than 0.00001 where the loss is
    below 0.1 (`FLOOR`), does not count; at the plateau training returns to the weights of the best validation, and the
    learning rate falls to zero over half as many steps as were trained before (`ANNEALING`); then training has
    converged.

    All of this depends on the losses and steps alone, so that a slow machine ends with the same weights as a fast one.

    Args:
        patience: validations without a new best; 0 to never stop.
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
        self.decay: tuple[int, int] | None = None  # its first and its last step
        self._stopped = False  # at a plateau, without a decay
        self._best, self._best_step = math.inf, 0
        self._start = 0  # the step at which the learning rate was last set to its full height

    def validated(self, loss: float, step: int, may_decay: bool = True) -> bool:
        """Take note of a validation.

        Args:
            loss: of the validation.
            step: the number of steps before it.
            may_decay: whether a decay may begin; not while the end of a budget already brings one.

        Returns:
            Whether the decay begins now: the weights of the best validation are to be put back.
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
        """How much of the decay is done, 0 to 1; None before it."""
        if self.decay is None:
            return None
        first, last = self.decay
        return min((step - first) / (last - first), 1.0)

    def reached(self, step: int) -> bool:
        """Whether training has converged."""
        return self._stopped or self.decayed(step) == 1.0

    def restart(self, step: int) -> None:
        """Go on with a converged training, at the full learning rate, until the next plateau."""
        self.waited, self.decay, self._stopped, self._start = 0, None, False, step

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("patience", "_anneal")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
