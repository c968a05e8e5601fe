"""Progress of a search on the terminal."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

from elman.io.format import clock_time
from elman.io.terminal import Verbosity, verbosity
from elman.options import flag
from elman.tune.options import TuneOptions
from elman.tune.study import Study, TrialRun, summary
from elman.tune.trial import Report


class SearchProgress:
    """Progress of a search on the terminal.

    Args:
        study: the study.
        options: the options of the search.
        console: the console to print to.
    """

    def __init__(self, study: Study, options: TuneOptions, console: Console) -> None:
        self._study, self._options, self._console = study, options, console
        self._began = time.monotonic()
        self._done = 0  # trials that this process has finished
        self.deadline = math.inf if options.timeout is None else self._began + options.timeout

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the time of the search is over; None without a limit."""
        return None if math.isinf(self.deadline) else max(self.deadline - time.monotonic(), 0.0)

    @contextmanager
    def showing(self, trial: TrialRun) -> Iterator[Report]:
        """Show a trial while it trains; yield the function that it reports its losses to."""
        if not self._console.is_terminal or verbosity() >= Verbosity.VERBOSE:
            yield lambda epoch, loss: self._study.report(trial.number, epoch, loss)
            return
        with self._console.status(self._line(trial)) as status:
            yield lambda epoch, loss: self._report(trial, status, epoch, loss)

    def _report(self, trial: TrialRun, status: Status, epoch: int, loss: float) -> bool:
        status.update(f"{self._line(trial)}: epoch {epoch}, validation {loss:.4f}")
        return self._study.report(trial.number, epoch, loss)

    def _line(self, trial: TrialRun) -> str:
        return f"trial {trial.number + 1} of {self._options.trials}"

    def tell(self, trial: TrialRun) -> None:
        """Print how a trial has ended, the best trial, and the time that is left."""
        self._done += 1
        row, best = self._study.rows()[trial.number], self._study.best()
        parts = [f"trial {trial.number}: {row['state']}"]
        if row["validation_loss"] is not None:
            parts[0] += f", validation {row['validation_loss']:.4f}"
        parts.append(", ".join(f"{flag(name)[2:]} {value}" for name, value in trial.values.items()))
        if row["reason"]:
            parts.append(row["reason"])
        elif best:
            parts.append(f"best {best['validation_loss']:.4f} (trial {best['trial']})")
        if (left := self._estimate()) > 0:
            parts.append(f"{clock_time(left)} left")
        self._console.print("; ".join(parts), markup=False, soft_wrap=True)

    def _estimate(self) -> float:
        """Return the time that the trials that are left may take."""
        counts = self._study.counts()
        rest = self._options.trials - sum(counts.values()) + counts["interrupted"]
        seconds = (time.monotonic() - self._began) / self._done * rest
        return min(seconds, self.deadline - time.monotonic())

    def tell_rest(self, why: str, command: str | None) -> None:
        """Print why the search has ended before its last trial, and how to go on."""
        line = f"{why}. {summary(self._study.counts())}; to go on: "
        line += command or f"the same call with out={str(self._study.path)!r}"
        self._console.print(line, markup=False, soft_wrap=True)
