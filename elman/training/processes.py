"""The processes that train one model together, and what they tell each other through torch.distributed."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed

from elman.engine.torch_private import tree_map
from elman.errors import BadInput, Failure
from elman.training.devices import find_device
from elman.training.trainable import Batches

T = TypeVar("T")
STEP_TIMEOUT = timedelta(minutes=30)  # for a process that is alive but does not answer; a dead one is noticed at once
END_TIMEOUT = timedelta(days=20)  # for process 0, which scores the model alone; torch counts 32 bits of milliseconds
ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # variables that torchrun and other launchers set
# What torch.distributed says when a process at the other end has gone.
_LOST = re.compile(r"\bgloo\b|connection (was )?(closed|reset)|broken pipe", re.IGNORECASE)
_PLACE_IN_CODE = re.compile(r"\[/[^\]]*\] *")


class ProcessLost(Failure):
    """Another process of the training has ended or cannot be reached."""


class Place(NamedTuple):
    """The place of a process among those that train a model together.

    Attributes:
        rank: index of the process. Process 0 writes the run folder, prints, and decides what depends on a clock.
        world_size: number of processes.
        local_rank: index of the process among those of its machine.
        local_world_size: number of processes on its machine.
        has_examples: False while it has none of a batch: it adds zero to sums, and others wait for it.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    has_examples: bool = True

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return self.world_size // self.local_world_size

    def variables(self) -> dict[str, str]:
        """Return the environment variables from which Lightning reads the place, named as torchrun names them."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            "GROUP_RANK": str(self.rank // self.local_world_size),
        }


ALONE = Place()
_place = ALONE
_announce: Callable[[Path], Any] = str  # does nothing


def place() -> Place:
    """Return the place of this process; `ALONE` unless it has joined others."""
    return _place


def is_first() -> bool:
    """Return whether this process writes the run folder and prints."""
    return _place.rank == 0


def place_from_environment() -> Place | None:
    """Return the place that torchrun or another launcher has set for this process; None if it was started alone.

    Raises:
        BadInput: for values that are no place.
    """
    missing = [name for name in ENVIRONMENT if name not in os.environ]
    if "RANK" in missing or os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    port = os.environ.get("MASTER_PORT", "")
    if missing or not is_port(port):
        got = f"no {' and no '.join(missing)}" if missing else f"MASTER_PORT={port!r:.20}"
        raise BadInput(
            "environment: expected MASTER_ADDR and MASTER_PORT, the address of process 0 and a free port there, beside "
            f"RANK and WORLD_SIZE, got {got}; unset RANK and WORLD_SIZE to train on one device"
        )
    values = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"} | dict(os.environ)
    texts = [values[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    rank, world_size, local_rank, local_world_size = (int(text) if text.isdecimal() else 0 for text in texts)
    joining = Place(rank, world_size, local_rank, local_world_size)
    if not all(map(str.isdecimal, texts)) or joining.rank >= joining.world_size or joining.local_world_size < 1:
        raise BadInput(
            "environment: expected RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun sets them, got "
            f"{', '.join(map(repr, texts)):.80}; unset RANK and WORLD_SIZE to train on one device"
        )
    return joining if joining.world_size > 1 else None


def is_port(text: str) -> bool:
    """Return whether a text is the number of a port."""
    return text.isdecimal() and 0 < int(text[:6]) < 1 << 16


@contextmanager
def joined(
    joining: Place, accelerator: str, init_method: str = "env://", announce: Callable[[Path], Any] = str
) -> Iterator[None]:
    """Train together with the other processes in the context; at its end, wait until process 0 has ended its context.

    Args:
        joining: the place of this process.
        accelerator: the accelerator of the training.
        init_method: how processes find each other, as for `torch.distributed.init_process_group`.
        announce: called with the path of the run folder, once it is known.

    Raises:
        BadInput: without torch.distributed.
        ProcessLost: if another process ends early.
    """
    global _place, _announce
    if not distributed.is_available():
        raise BadInput("--devices: expected a torch that is built with torch.distributed, got one without")
    is_ours = not distributed.is_initialized()
    with _losses_noticed(joining):
        if is_ours:
            for name, value in joining.variables().items():
                os.environ.setdefault(name, value)
            device = find_device(accelerator)
            if device.type == "cuda":
                torch.cuda.set_device(joining.local_rank)
            backend = "gloo" if device.type == "cpu" else f"cpu:gloo,{device.type}:nccl"
            rank, world_size = joining.rank, joining.world_size
            distributed.init_process_group(backend, init_method, STEP_TIMEOUT, world_size, rank)
        _place, _announce = joining, announce
        try:
            end = distributed.new_group(backend="gloo", timeout=END_TIMEOUT)
            yield
            distributed.barrier(end)
        finally:
            _place, _announce = ALONE, str
            if is_ours:
                distributed.destroy_process_group()


@contextmanager
def _losses_noticed(joining: Place) -> Iterator[None]:
    """Raise `ProcessLost` instead of torch's errors about a process that has gone."""
    try:
        yield
    except RuntimeError as error:
        if joining.world_size == 1 or not (isinstance(error, distributed.DistError) or _LOST.search(str(error))):
            raise
        if "EADDRINUSE" in str(error):
            port = os.environ.get("MASTER_PORT")
            raise BadInput(f"MASTER_PORT: expected a free port on this machine, got {port}, which is in use") from None
        reason = _PLACE_IN_CODE.sub("", str(error).strip().splitlines()[0]).partition(". ")[0]
        raise ProcessLost(
            f"process {joining.rank} of {joining.world_size} has lost the connection to another one, which has ended "
            f"or cannot be reached: {reason:.200}"
        ) from error


@contextmanager
def losses_noticed() -> Iterator[None]:
    """Raise `ProcessLost` instead of torch's errors about another process of the training that has gone.

    Raises:
        ProcessLost: if another process has ended early.
    """
    with _losses_noticed(_place):
        yield


def announce(path: Path) -> None:
    """Tell whoever started this process where the run folder is.

    Args:
        path: the run folder.
    """
    _announce(path)


def of_process(value: T, rank: int = 0) -> T:
    """Return the value that one process passes, on all processes.

    Args:
        value: the value; those of other processes are ignored.
        rank: the process.
    """
    if _place.world_size == 1:
        return value
    box = [value if _place.rank == rank else None]
    distributed.broadcast_object_list(box, rank)
    value_of_process: Any = box[0]
    return value_of_process  # type: ignore[no-any-return]


def gathered(value: T) -> list[T]:
    """Return the values of all processes, in the order of their ranks, on process 0; only this one's on the others."""
    if _place.world_size == 1:
        return [value]
    values: list[Any] | None = [None] * _place.world_size if _place.rank == 0 else None
    distributed.gather_object(value, values)
    return [value] if values is None else values


def exchanged(numbers: Sequence[float]) -> list[list[float]]:
    """Return the numbers of every process, in the order of their ranks, on all processes.

    Args:
        numbers: as many on every process.
    """
    mine = torch.tensor(numbers, dtype=torch.float64)
    rows = [torch.empty_like(mine) for _ in range(_place.world_size)]
    distributed.all_gather(rows, mine)
    return [row.tolist() for row in rows]


class _AllReduce(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _AllReduce.forward(_, gradient)


def all_reduced(x: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, which must all call this, and all compute its gradient.

    Args:
        x: of the same shape on every process.
    """
    x = x if _place.has_examples else x * 0  # not new zeros: the backward pass is one that all processes must run
    if _place.world_size == 1:
        return x
    total: Tensor = _AllReduce.apply(x)  # type: ignore[no-untyped-call]
    return total


def has_whole_batch() -> bool:
    """Return whether `all_reduced` returns what it gets, since this process has all examples of a batch."""
    return _place.world_size == 1 and _place.has_examples


@contextmanager
def _at(other: Place) -> Iterator[None]:
    global _place
    before, _place = _place, other
    try:
        yield
    finally:
        _place = before


def without_examples() -> AbstractContextManager[None]:
    """Return a context in which this process has no example of the batch."""
    return _at(_place._replace(has_examples=False))


def alone() -> AbstractContextManager[None]:
    """Return a context in which this process computes alone, while the others wait."""
    return _at(ALONE)


def check_same(what: str, values: Any) -> None:
    """Check that all processes have the same values.

    Args:
        what: what is compared, for the message: "the data of the training".
        values: what JSON can represent.

    Raises:
        BadInput: if they differ.
    """
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
    digests = of_process(gathered(digest))
    for rank, other in enumerate(digests):
        if other != digests[0]:
            raise BadInput(
                f"process {rank} of {_place.world_size}: expected {what} to be the same for all processes, got other "
                "than for process 0; copy the files to all machines, or use a file system that they share"
            )


def part_of(batches: Batches) -> Batches:
    """Return the part of every batch that this process works on.

    Args:
        batches: the batches of all processes together.

    Raises:
        BadInput: if they cannot be divided.
    """
    if _place.world_size == 1:
        return batches
    part: Callable[[int, int], Batches] | None = getattr(batches, "part", None)
    if part is None:
        raise BadInput(
            f"--devices: expected a task whose batches can be divided among processes, got {type(batches).__name__} "
            "without a method `part`; pass --devices 1"
        )
    return part(_place.rank, _place.world_size)


def joined_rows(state: Any) -> Any:
    """Join the recurrent states of all processes on process 0, which have rows r, r + W, r + 2W, ... of a batch.

    Args:
        state: the state of this process, a nesting of tuples of tensors (..., B, H); None for no state.

    Returns:
        The state of all rows, (..., W * B, H); on other processes than the first, that of their own rows.
    """
    if _place.world_size == 1:
        return state
    states = gathered(tree_map(lambda part: part.cpu() if isinstance(part, Tensor) else part, state))

    def join(*parts: Any) -> Any:
        return torch.stack(parts, -2).flatten(-3, -2) if isinstance(parts[0], Tensor) else parts[0]

    return tree_map(join, *states)


def divided_rows(state: Any) -> Any:
    """Return this process's rows of a state of all rows, as `joined_rows` returns it."""

    def rows_of(part: Any) -> Any:
        return part[..., _place.rank :: _place.world_size, :].clone() if isinstance(part, Tensor) else part

    return state if _place.world_size == 1 else tree_map(rows_of, state)
