"""Starts the processes of a training, watches them, and ends all when one has ended.

A training on several devices has a process for each. The process that the user has started does not train: it starts
the others, forwards signals to them, and raises the first of their errors. Processes that torchrun or another launcher
has started find each other by their environment; then each trains, and the launcher watches them.
"""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from elman.errors import BadInput, Failure, Terminated
from elman.io.files import STDIN
from elman.io.run_folder import Run, open_run
from elman.io.terminal import Guarded, Verbosity, note, set_verbosity, verbosity
from elman.options import PARTS
from elman.tasks import run as runs
from elman.tasks.task import Task
from elman.tasks.worker import SIGNALS, Job, Seat, WorkerResult
from elman.training.lightning_arguments import OURS, LightningArguments
from elman.training.options import TrainingOptions
from elman.training.processes import STEP_TIMEOUT, Place, ProcessLost, is_port, joined, place_from_environment
from elman.training.trainer import check_device

NODE = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")  # variables of a training on several machines
GRACE = 5.0  # seconds that processes have to end by themselves once another one has failed
POLL = 0.05  # seconds between looks at the processes
# Until `work` handles signals, each ends a process without a traceback.
_WORKER = (
    "import json, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); sys.path[:] = json.loads(sys.argv[1]); "
    "from elman.tasks.worker import work; work()"
)


def start(
    task: Task,
    data: Any,
    options: Any,
    training: TrainingOptions,
    out: Path | None,
    began: float,
    console: Callable[[], Console],
    lightning: LightningArguments = OURS,
) -> Run:
    """Train a new model on the devices of the options, as `elman.tasks.run.start` does in one process.

    Args:
        task: the task.
        data: files, or Python objects.
        options: the options of the task.
        training: options of the training.
        out: the run folder; None: the next free one.
        began: when the training began, by time.monotonic.
        console: makes the console to print on; a function of a module, which other processes can import.
        lightning: arguments of users for Lightning's Trainer.

    Returns:
        The run. Without a shared file system, machines other than the first do not have its files.

    Raises:
        BadInput: for data that cannot be used.
        Failure: if the training diverges, a process dies, or memory or disk space runs out.
        Interrupted: after Ctrl-C or SIGTERM, with everything saved.
    """
    training = training.model_copy(update=_devices_of(training, place_from_environment()))
    is_single = training.devices * training.nodes == 1
    if not is_single and any(map(names_stdin, [data, *(getattr(options, name, None) for name in PARTS)])):
        raise BadInput("--devices: expected data in files, got standard input, which several processes cannot read")
    arguments = (data, options, training, out, began)
    return _run(_job(task, runs.start, arguments, training, console, lightning))


def resume(
    task: Task, path: Path, data: Any, changes: dict[str, Any], began: float, console: Callable[[], Console]
) -> Run:
    """Resume a training on the devices of its options, as `elman.tasks.run.resume` does in one process.

    Args:
        task: the task.
        path: the run folder.
        data: the training data, if they have moved; None: as in the first training.
        changes: training options that replace those of the run.
        began: when this training began, by time.monotonic.
        console: as for `start`.

    Returns:
        The run.

    Raises:
        BadInput: for a run that cannot be resumed; for other data.
        Failure: if the training diverges, a process dies, or memory or disk space runs out.
        Interrupted: after Ctrl-C or SIGTERM, with everything saved.
    """
    before, joining = task.training_of(open_run(path)), place_from_environment()
    if joining:
        before = before.model_copy(update={"devices": 1, "nodes": 1})
    training = before.model_copy(update=changes)
    changes = changes | _devices_of(training, joining)
    training = training.model_copy(update=changes)
    return _run(_job(task, runs.resume, (path, data, changes, began), training, console, None))


def prints_results(run: Run) -> bool:
    """Return whether this is the process, of those that the user has started, that prints the results of a run.

    Args:
        run: the run, as `start` or `resume` returns it.
    """
    if joining := place_from_environment():
        return joining.rank == 0
    return bool(run.config) and (run.config["training"].get("nodes", 1) == 1 or _node_rank() == 0)


def _job(
    task: Task,
    function: Callable[..., Run],
    arguments: tuple[Any, ...],
    training: TrainingOptions,
    console: Callable[[], Console],
    lightning: LightningArguments | None,
) -> Job:
    is_guarded = isinstance(sys.stdout, Guarded) or isinstance(sys.stderr, Guarded)
    return Job(task.name, function, arguments, training, console, lightning, verbosity(), is_guarded)


def names_stdin(data: Any) -> bool:
    """Return whether data are files of which one is standard input."""
    paths = data if isinstance(data, list) else [data]
    return any(isinstance(path, str | Path) and Path(path) == STDIN for path in paths)


def _devices_of(training: TrainingOptions, joining: Place | None) -> dict[str, int]:
    """Return the options `devices` and `nodes`: those of the processes that another launcher has started, if it has.

    Raises:
        BadInput: if the options name other numbers.
    """
    if joining is None:
        return {"devices": training.devices, "nodes": training.nodes}
    started = {"devices": joining.local_world_size, "nodes": joining.nodes}
    for name, number in started.items():
        if (wanted := getattr(training, name)) not in (1, number):
            raise BadInput(
                f"--{name} {wanted}: expected {number}, as torchrun or another launcher has started the processes, got "
                f"{wanted}; leave --{name} out"
            )
    return started


def _run(job: Job) -> Run:
    joining = place_from_environment()
    if joining is not None:
        with _quiet_unless_first(joining), joined(joining, job.training.accelerator):
            run = job.run(joining.rank == 0)
        return run if joining.rank == 0 else _run_at(run.path)
    is_single = job.training.devices * job.training.nodes == 1
    return job.run() if is_single else _run_at(_train_in_workers(job))


def _run_at(path: Path) -> Run:
    """Open the run in a folder; on a machine that does not have its files, return one without them."""
    return open_run(path) if path.exists() else Run(path, {})


@contextmanager
def _quiet_unless_first(joining: Place) -> Iterator[None]:
    level = verbosity()
    if joining.rank:
        set_verbosity(Verbosity.QUIET)
    try:
        yield
    finally:
        set_verbosity(level)


# In the process that the user has started.


def _node_rank() -> int:
    text = os.environ.get("NODE_RANK", "0")
    return int(text) if text.isdecimal() else 0


def _train_in_workers(job: Job) -> Path:
    """Train in processes that this one starts and watches, and return the run folder."""
    devices, nodes = job.training.devices, job.training.nodes
    check_device(job.training)
    if nodes > 1:
        _check_node(nodes)
    try:
        pickled = pickle.dumps(job)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise BadInput(
            f"--devices {devices}: expected data, callbacks and loggers that can be sent to other processes, got an "
            f"object that pickle refuses: {str(error).splitlines()[0]:.200}"
        ) from None
    with TemporaryDirectory(prefix="elman-") as folder:
        init_method = "env://" if nodes > 1 else Path(folder, "store").as_uri()
        first = (_node_rank() if nodes > 1 else 0) * devices
        places = [Place(first + i, devices * nodes, i, devices) for i in range(devices)]
        seats = [Seat(place, init_method, Path(folder)) for place in places]
        workers = list[subprocess.Popen[bytes]]()
        with _forwarding_signals(workers) as forwarded:
            try:
                workers.extend(map(_start_worker, seats))
                for worker, seat in zip(workers, seats, strict=True):
                    _send(worker, pickle.dumps(seat) + pickled)
                stopped = _watch(workers, forwarded, seats[0].announced)
            finally:
                _kill(workers)
        return _result(seats, workers, stopped, forwarded)


def _check_node(nodes: int) -> None:
    missing = [name for name in NODE if not os.environ.get(name)]
    rank, address, port = (os.environ.get(name, "") for name in NODE)
    is_rank = rank.isdecimal() and int(rank) < nodes
    if missing or not is_rank or not is_port(port):
        wrong = f"NODE_RANK={rank!r:.20}" if not is_rank else f"MASTER_PORT={port!r:.20}"
        raise BadInput(
            f"--nodes {nodes}: expected an environment with NODE_RANK, the index of this machine from 0 to {nodes - 1},"
            " and with MASTER_ADDR and MASTER_PORT, the address of machine 0 and a free port there; got one "
            + (f"without {' and '.join(missing)}" if missing else f"with {wrong}")
        )
    try:
        socket.getaddrinfo(address, port)
        unknown = ""
    except OSError:
        unknown = ", which has no address yet"  # as of a pod that starts later
    note(
        f"machine {rank} of {nodes}: connecting to machine 0 at {address:.100}:{port}{unknown}; the others are waited "
        f"for, {STEP_TIMEOUT.seconds // 60} minutes at most"
    )


def _start_worker(seat: Seat) -> "subprocess.Popen[bytes]":
    """Start a process that trains."""
    threads = max(torch.get_num_threads() // seat.place.local_world_size, 1)
    # Warnings of torch's C++ code name other ends of connections, where one line shall say what has happened.
    defaults = {"OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR"} | _network(seat)
    environment = defaults | os.environ | seat.place.variables()
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _WORKER, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches this process alone, which forwards it
    )


def _send(worker: "subprocess.Popen[bytes]", data: bytes) -> None:
    """Write to the standard input of a process, and leave it open: it ends when this process does."""
    assert worker.stdin
    with suppress(BrokenPipeError):  # it has died, which `_watch` notices
        worker.stdin.write(data)
        worker.stdin.flush()


def _network(seat: Seat) -> dict[str, str]:
    """Return a variable with the network interface that gloo shall use: within a machine, none that others reach."""
    if not sys.platform.startswith("linux"):
        return {}
    name = "lo" if seat.place.nodes == 1 else _interface_towards(os.environ["MASTER_ADDR"])
    return {"GLOO_SOCKET_IFNAME": name} if name else {}


def _interface_towards(address: str) -> str:
    """Return the network interface with the address from which this machine reaches another one; "" if unknown.

    gloo itself takes the address of the host's name, which is often one that other machines do not reach.
    """
    import fcntl
    import struct

    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        local = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                request = struct.pack("256s", name.encode()[:15])
                reply = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
                if socket.inet_ntoa(reply[20:24]) == local:
                    return name
    return ""


@contextmanager
def _forwarding_signals(workers: "list[subprocess.Popen[bytes]]") -> Iterator[list[int]]:
    """Forward signals to the first process, which stops all of them; yield the list of those that have come."""
    forwarded = list[int]()

    def forward(number: int, frame: Any) -> None:
        forwarded.append(number)
        for worker in workers[:1]:
            worker.send_signal(number)

    is_main = threading.current_thread() is threading.main_thread()
    handled = [number for number in SIGNALS if is_main and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in handled}
    try:
        yield forwarded
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(workers: "list[subprocess.Popen[bytes]]", forwarded: list[int], announced: Path) -> set[int]:
    """Wait until all processes have ended, and return the indices of those that had to be killed.

    When one has failed, the others lose their connection to it and end by themselves, or are killed after `GRACE`. So
    they are after a signal, unless they train: then they first save a checkpoint, if it is the first signal.
    """
    deadline = float("inf")
    while any(worker.poll() is None for worker in workers):
        is_stopped_now = len(forwarded) > 1 or (forwarded and not announced.exists())
        if deadline == float("inf") and (is_stopped_now or any(worker.poll() for worker in workers)):
            deadline = time.monotonic() + GRACE
        if time.monotonic() > deadline:
            return _kill(workers)
        time.sleep(POLL)
    return set()


def _kill(workers: "list[subprocess.Popen[bytes]]") -> set[int]:
    """Kill the processes that still run, and return their indices."""
    running = {i for i, worker in enumerate(workers) if worker.poll() is None}
    for i in running:
        workers[i].kill()
    for worker in workers:
        worker.wait()
        with suppress(OSError):
            worker.stdin.close()  # type: ignore[union-attr]
    return running


def _result(
    seats: list[Seat], workers: "list[subprocess.Popen[bytes]]", stopped: set[int], forwarded: list[int]
) -> Path:
    """Return the run folder; if processes have failed, raise the error of the one that failed first.

    Errors come before deaths, and both before the loss of a connection, which follows from them.
    """
    results = [WorkerResult.of(seat) for seat in seats]
    errors = [result.error for result in results if result and result.error]
    for error in errors:
        if not isinstance(error, ProcessLost):
            raise error
    dead = [i for i, result in enumerate(results) if result is None and i not in stopped]
    if forwarded and (dead or stopped):  # the signal came before the processes could handle it, or twice
        raise KeyboardInterrupt if forwarded[-1] == signal.SIGINT else Terminated(forwarded[-1])
    if dead:
        seat, code = seats[dead[0]], workers[dead[0]].returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        others = "; the others were stopped" if len(seats) > 1 else ""
        # The first process says how to resume, if it lives.
        is_known = results[0] is None and seat.announced.exists()
        path = Path(seat.announced.read_text(encoding="utf-8")) if is_known else None
        is_saved = path is not None and (run := _run_at(path)).last.exists()
        hint = f"; to resume from the last checkpoint: {run.resume_command}" if is_saved else ""
        raise Failure(f"process {seat.place.rank} of {seat.place.world_size} {how}{others}{hint}")
    if errors:
        raise errors[0]
    if stopped:
        raise Failure(f"{len(stopped)} processes did not end, and were killed")
    path = results[0].path if results[0] else None
    assert path is not None
    return path
