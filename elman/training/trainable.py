"""Protocols that a task implements to be trained."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import Tensor, nn


class Batches(Protocol):
    """An endless sequence of batches: batch `len(batches)` is the first one of the second epoch.

    `len` is the number of batches per epoch, and iteration yields one epoch. Batch i is the same every time it is
    requested, so that training can resume at any step.

    To train on several processes, batches also have `part(rank, world_size)`, which returns equally many batches with
    the rows or examples of one process; `elman.data.batches.Unused` stands for a batch without any.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Trainable(Protocol):
    """A model, its training and validation batches, and its loss.

    `loss(batch, state)` returns the loss summed over the batch, the number of units in that sum, and the state to pass
    with the next batch. The state is detached between batches, which is truncated BPTT.
    """

    @property
    def model(self) -> nn.Module: ...

    @property
    def train(self) -> Batches: ...

    @property
    def validation(self) -> Batches: ...

    @property
    def unit(self) -> str:
        """The unit that the loss is averaged over, such as "tokens"."""

    @property
    def loss(self) -> Callable[[Any, Any], tuple[Tensor, int, Any]]: ...

    def with_model(self, model: nn.Module) -> "Trainable":
        """Return the same task with a copy of the model, which may have other weights."""
