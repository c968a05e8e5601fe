"""Restores the conditions under which steps ran, to run them again exactly as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from elman.engine.module_state import ModuleState, outside_tensors, restore_module_state
from elman.engine.precision import Precision, autocast


class Conditions(NamedTuple):
    """What the steps of a call depend on beside the tensors that they are given.

    Attributes:
        cell: whose steps they are.
        module_state: training or evaluation of each of its modules, and the values its step reads.
        outside: tensors that its step can reach and that are none of its own, and how often each was written to.
        precision: makes a context in which torch computes as precisely as it did.
    """

    cell: nn.Module
    module_state: ModuleState
    outside: tuple[tuple[Tensor, int], ...]
    precision: Precision

    @classmethod
    def of(cls, cell: nn.Module, device: str) -> "Conditions":
        """Those of now, for tensors on a kind of device."""
        return cls(cell, ModuleState.of(cell), outside_tensors(cell), autocast(device))

    @contextmanager
    def restored(self, purpose: str) -> Iterator[None]:
        """Within, steps run as they did.

        Args:
            purpose: "bptt" or "flow", for the message.

        Raises:
            RuntimeError: if something else that the step reads has changed since then.
        """
        with restore_module_state(self.cell, self.module_state) as unchanged, self.precision():
            now = {id(tensor): count for tensor, count in outside_tensors(self.cell)}
            if not unchanged or any(now.get(id(tensor)) != count for tensor, count in self.outside):
                name = self.cell._get_name()
                raise RuntimeError(
                    f"{name}: {purpose}: expected the cell as it was in the forward pass, got one with another "
                    "attribute or tensor"
                )
            yield
