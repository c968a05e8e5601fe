"""What the training room asks of a task."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn


class Batches(Protocol):
    """One epoch. Batch i is the same every time it is asked for, so that training can go on from any step."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Task(Protocol):
    """A model, what it is trained and validated on, and its loss.

    `loss(batch, state)` returns the loss summed over a batch, over how many units it is summed, and what the next
    batch's call is to be given as `state`; that is detached in between, which makes it truncated BPTT.
    """

    model: nn.Module
    train: Batches
    validation: Batches
    unit: str  # what the loss is counted over: "tokens"

    @property
    def loss(self) -> Callable[[Any, Any], tuple[Tensor, int, Any]]: ...
