"""States of torch's random generators, so that steps that run again draw the same numbers."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

RngState = tuple[Tensor, ...]  # the states of torch's generators: the CPU's, and that of the device


def get_rng_state(device: torch.device) -> RngState:
    """Where torch's generators for the CPU and for one device stand."""
    cpu = torch.get_rng_state()
    return (cpu,) if _alone(device) else (cpu, torch.get_device_module(device).get_rng_state(device))


@contextmanager
def rng_state(there: RngState, device: torch.device) -> Iterator[None]:
    """Within, the generators go on from where they stood once; behind it, from where they stand now."""
    before = get_rng_state(device)
    _set(there, device)
    try:
        yield
    finally:
        _set(before, device)


class RngStates:
    """Where the generators stood, from time to time.

    Args:
        device: where the sequence lies.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._noted: list[RngState] = []

    def note(self) -> None:
        """Remember where they stand now; where they have not moved since the last time, that takes no memory."""
        now = get_rng_state(self._device)
        if self._noted and all(map(torch.equal, now, self._noted[-1])):
            now = self._noted[-1]
        self._noted.append(now)

    def drawing_from(self, k: int) -> AbstractContextManager[None]:
        """Within, they go on from where they stood when `note` was called for the k-th time, from 0 up."""
        if self._noted[0] is self._noted[-1]:
            return nullcontext()  # nothing was drawn
        return rng_state(self._noted[k], self._device)


def _alone(device: torch.device) -> bool:
    return device.type in ("cpu", "meta")


def _set(there: RngState, device: torch.device) -> None:
    torch.set_rng_state(there[0])
    if not _alone(device):
        torch.get_device_module(device).set_rng_state(there[1], device)
