"""Runs steps again exactly as they ran before."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elman.engine.module_state import ModuleState, outside_tensors, restore_module_state
from elman.engine.precision import Precision, autocast


class Conditions(NamedTuple):
    """What the steps of a call depend on beside the tensors that they are passed.

    Attributes:
        cell: whose steps they are.
        module_state: the mode of each of its modules, training or evaluation, and the values that its step reads.
        outside: tensors that its step can reach and that are not its own, and how often each was written to in place.
        precision: makes a context with the autocast state of the call.
    """

    cell: nn.Module
    module_state: ModuleState
    outside: tuple[tuple[Tensor, int], ...]
    precision: Precision

    @classmethod
    def of(cls, cell: nn.Module, device: str) -> "Conditions":
        """The present conditions, for tensors on a kind of device."""
        return cls(cell, ModuleState.of(cell), outside_tensors(cell), autocast(device))

    @contextmanager
    def restored(self, purpose: str) -> Iterator[None]:
        """A context in which steps run as they did.

        Args:
            purpose: "bptt", "flow" or "double backward", for the message.

        Raises:
            RuntimeError: if anything has changed since then that cannot be restored.
        """
        with first_restored([self], purpose):
            yield

    @contextmanager
    def _restored(self) -> Iterator[bool]:
        """As `restored`, but yields whether everything else that the step reads is unchanged."""
        with restore_module_state(self.cell, self.module_state) as unchanged, self.precision():
            versions = {id(tensor): version for tensor, version in outside_tensors(self.cell)}
            yield unchanged and all(versions.get(id(tensor)) == version for tensor, version in self.outside)


@contextmanager
def first_restored(candidates: Sequence[Conditions], purpose: str) -> Iterator[nn.Module]:
    """A context in which steps run as they did, by the first conditions that can still be restored; yields their cell.

    Args:
        candidates: conditions of cells with the same equations; those of cells that no longer exist are missing.
        purpose: as in `Conditions.restored`.

    Raises:
        RuntimeError: if none can be restored.
    """
    for conditions in candidates:
        with conditions._restored() as unchanged:
            if unchanged:
                yield conditions.cell
                return
    if not candidates:
        raise RuntimeError(f"{purpose}: expected the cell of the forward pass, which no longer exists; keep the layer")
    raise RuntimeError(
        f"{candidates[0].cell._get_name()}: {purpose}: expected the cell as it was in the forward pass, but an "
        "attribute or a tensor that it reads has changed"
    )


def gradients_of_replay(
    replay: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    needed: Sequence[bool],
    create_graph: bool = True,
) -> list[Tensor | None]:
    """Run steps again, and return gradients of their inputs.

    Args:
        replay: computes results from views of the inputs; it runs with gradients enabled.
        inputs: the tensors of the call.
        cotangents: of each result.
        needed: whether the gradient of each input is wanted.
        create_graph: as in `torch.autograd.grad`.

    Returns:
        The gradient of each input; None if it is not needed, or no result depends on it.
    """
    with torch.enable_grad():
        # Views, since an input may have been computed from another: a state by a call with the same parameters.
        views = [tensor.view_as(tensor) for tensor in inputs]
        pairs = [
            (result, cotangent)
            for result, cotangent in zip(replay(views), cotangents, strict=True)
            if cotangent is not None and result.requires_grad
        ]
        wanted = [view for view, is_needed in zip(views, needed, strict=True) if is_needed]
        if not pairs or not wanted:
            return [None for _ in needed]
        gradients = iter(
            torch.autograd.grad(
                [result for result, _ in pairs], wanted, [cotangent for _, cotangent in pairs],
                create_graph=create_graph, allow_unused=True,
            )
        )  # fmt: skip
        return [next(gradients) if is_needed else None for is_needed in needed]
