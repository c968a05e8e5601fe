"""Decisions that all processes of a training take together, at the same step."""

from collections.abc import Callable

from elman.training.processes import exchanged, place


class Agreement:
    """What the processes of a training know of each other, since the last exchange.

    Each step has one exchange, of five numbers of each process. Decisions that depend on a clock follow that of process
    0. A signal that any process receives stops all of them.

    Attributes:
        seconds: training time in seconds, on the clock of process 0.
        is_save_due: whether process 0 saved its last checkpoint long enough ago.
        signal: the signal that stops the training; None if none has come.
        clock: returns the training time of this process.
        save_due: returns whether a checkpoint is due on the clock of this process.
        received: returns the signal that this process has received, or None.
    """

    def __init__(self) -> None:
        self.seconds, self.is_save_due = 0.0, False
        self.signal: int | None = None
        self.clock: Callable[[], float] = float
        self.save_due: Callable[[], bool] = bool
        self.received: Callable[[], int | None] = lambda: None

    def exchange(self, loss: float = 0.0, count: int = 0) -> tuple[list[float], int]:
        """Exchange the numbers of a step. All processes must call this equally often.

        Args:
            loss: the loss of this process, summed over its part of the batch.
            count: the number of units in that sum.

        Returns:
            The losses of all processes, and the count of all of them together.
        """
        rows = exchanged([loss, count, self.clock(), self.save_due(), self.received() or 0])
        _, _, self.seconds, is_save_due, _ = rows[0]
        self.is_save_due = bool(is_save_due)
        self.signal = next((int(row[-1]) for row in rows if row[-1]), self.signal)
        return [row[0] for row in rows], int(sum(row[1] for row in rows))


def new_agreement() -> Agreement | None:
    """Return an agreement with the other processes of the training; None if there are none."""
    return Agreement() if place().world_size > 1 else None
