"""A process that trains together with others: what it gets from the process that has started it, and returns."""

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from elman.errors import BadInput, Failure, Terminated
from elman.io.files import write_whole
from elman.io.run_folder import Run
from elman.io.terminal import Verbosity, guarded, set_verbosity
from elman.report import tables
from elman.tasks.registry import get_task
from elman.training.callbacks import Interrupted
from elman.training.lightning_arguments import LightningArguments
from elman.training.options import TrainingOptions
from elman.training.processes import Place, joined

SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]


@dataclass(frozen=True)
class Job:
    """What each process of a training does: `function` of `elman.tasks.run`.

    Attributes:
        task: the name of the task.
        function: `start` or `resume`.
        arguments: its arguments after the task and before the console.
        training: the options of the training.
        console: makes the console of the first process.
        lightning: arguments of users for Lightning's Trainer; None for `resume`.
        verbosity: the verbosity of the first process.
        is_guarded: whether control characters are escaped on the terminal.
    """

    task: str
    function: Callable[..., Run]
    arguments: tuple[Any, ...]
    training: TrainingOptions
    console: Callable[[], Console]
    lightning: LightningArguments | None
    verbosity: Verbosity
    is_guarded: bool

    def run(self, is_first: bool = True) -> Run:
        """Train in this process."""
        console = self.console() if is_first else tables.console(quiet=True)
        lightning = {"lightning": self.lightning} if self.lightning else {}
        return self.function(get_task(self.task), *self.arguments, console=console, **lightning)


@dataclass(frozen=True)
class Seat:
    """What a process that is started here gets besides the job.

    Attributes:
        place: its place among all processes.
        init_method: how processes find each other, as for `torch.distributed.init_process_group`.
        folder: where it writes its result and the path of the run.
    """

    place: Place
    init_method: str
    folder: Path

    @property
    def result(self) -> Path:
        """The file of its result."""
        return self.folder / f"result-{self.place.rank}"

    @property
    def announced(self) -> Path:
        """The file with the path of the run folder, once there is one."""
        return self.folder / "run"


@dataclass(frozen=True)
class WorkerResult:
    """The run folder of a training, or the error that ended a process."""

    path: Path | None = None
    error: BaseException | None = None

    def pickled(self) -> bytes:
        """Return the result as bytes; an error that pickle cannot restore becomes its traceback."""
        try:
            data = pickle.dumps(self)
            pickle.loads(data)  # noqa: S301 - some exceptions can be written, but not read
        except Exception:
            text = "".join(traceback.format_exception(self.error))
            return pickle.dumps(WorkerResult(error=RuntimeError(text)))
        return data

    @classmethod
    def of(cls, seat: Seat) -> "WorkerResult | None":
        """Read the result of a process; None if it has written none."""
        if not seat.result.exists():
            return None
        result: WorkerResult = pickle.loads(seat.result.read_bytes())  # noqa: S301 - a file in a folder of ours
        return result


def work() -> None:
    """Train in a process that `elman.tasks.launch` has started, and write the result to a file."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _terminate)
    seat: Seat = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    result = _work(seat)
    write_whole(seat.result, result.pickled())
    raise SystemExit(1 if result.error else 0)


def _work(seat: Seat) -> WorkerResult:
    try:
        job = _read_job()
        threading.Thread(target=_end_with_parent, daemon=True).start()
        set_verbosity(job.verbosity if seat.place.rank == 0 else Verbosity.QUIET)
        announced = partial(_announce, seat)
        with _guarded_if(job.is_guarded), joined(seat.place, job.training.accelerator, seat.init_method, announced):
            return WorkerResult(job.run(seat.place.rank == 0).path)
    except (BadInput, Failure, Interrupted, KeyboardInterrupt, Terminated) as error:
        return WorkerResult(error=error)
    except BaseException as error:
        error.add_note(f"in process {seat.place.rank}:\n{traceback.format_exc()}")
        return WorkerResult(error=error)


def _read_job() -> Job:
    try:
        job: Job = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    except (AttributeError, ImportError) as error:
        raise BadInput(
            f"--devices: expected classes that other processes can import, got one that they cannot: {error}; move it "
            "from the script to a module"
        ) from None
    return job


def _guarded_if(is_guarded: bool) -> AbstractContextManager[None]:
    return guarded() if is_guarded else nullcontext()


def _announce(seat: Seat, path: Path) -> None:
    write_whole(seat.announced, str(path))


def _terminate(number: int, frame: Any) -> None:
    raise Terminated(number)


def _end_with_parent() -> None:
    """Terminate this process, as SIGTERM does, when the one that started it has died: standard input then ends."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
