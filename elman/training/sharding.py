"""Fully sharded data parallelism (FSDP): each process stores a part of the weights and of the optimizer's state."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from elman.training.processes import exchanged
from elman.training.trainable import Trainable

if TYPE_CHECKING:  # slow to import, and not in every build of torch
    from torch.distributed.device_mesh import DeviceMesh


class LossModule(nn.Module):
    """A module whose forward pass is the loss of a task: FSDP gathers the weights before it.

    Args:
        task: the task.
    """

    def __init__(self, task: Trainable) -> None:
        super().__init__()
        self.model = task.model
        self._loss = task.loss

    def forward(self, batch: Any, state: Any) -> tuple[Tensor, int, Any]:
        """Return the loss summed over a batch, the number of units, and the state."""
        return self._loss(batch, state)


def sharded_loss(task: Trainable, mesh: "DeviceMesh") -> Callable[[Any, Any], tuple[Tensor, int, Any]]:
    """Shard the model of a task, and return its loss.

    Args:
        task: the task.
        mesh: the processes.
    """
    from torch.distributed.fsdp import fully_shard

    loss = LossModule(task)
    fully_shard(loss, mesh=mesh, reshard_after_forward=True)  # so that weights are sharded between all steps
    return loss.__call__


def is_sharded(model: nn.Module) -> bool:
    """Return whether the weights of a model are sharded: each is then a DTensor."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def whole_norm(norm: Tensor) -> Tensor:
    """Return a norm of all gradients, which may be sharded, as a tensor. All processes must call this."""
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return whole


def are_finite(gradients: Sequence[Tensor]) -> bool:
    """Return True if all numbers of gradients, which may be sharded, are finite. All processes must call this."""
    is_whole = not any(hasattr(gradient, "full_tensor") for gradient in gradients)
    parts: Sequence[Any] = gradients  # a DTensor has a part of its numbers on this process
    finite = all(bool((part if is_whole else part.to_local()).isfinite().all()) for part in parts)
    return finite if is_whole else all(numbers[0] for numbers in exchanged([finite]))


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a model. If it is sharded, all processes must call this; the first gets the weights."""
    if not is_sharded(model):
        return model.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: Any = get_model_state_dict(model, options=options)
    return dict(weights)
