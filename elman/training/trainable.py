"""What the training room asks of a task."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import Tensor, nn


class Batches(Protocol):
    """Batch after batch, `len` of them to an epoch, and no end: behind those of the first come those of the second.

    Batch i is the same every time it is asked for, so that training can go on from any step. To loop over them gives
    one epoch.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Trainable(Protocol):
    """A model, what it is trained and validated on, and its loss.

    `loss(batch, state)` returns the loss summed over a batch, over how many units it is summed, and what the next
    batch's call is to be given as `state`; that is detached in between, which makes it truncated BPTT.
    """

    @property
    def model(self) -> nn.Module: ...

    @property
    def train(self) -> Batches: ...

    @property
    def validation(self) -> Batches: ...

    @property
    def unit(self) -> str:
        """What the loss is counted over: "tokens"."""

    @property
    def loss(self) -> Callable[[Any, Any], tuple[Tensor, int, Any]]: ...
