"""States of torch's random generators, so that steps that run again draw the same numbers."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

RngState = tuple[Tensor, ...]  # the states of torch's generators for the CPU and the device


def get_rng_state(device: torch.device) -> RngState:
    """Return the states of torch's generators for the CPU and for one device."""
    cpu = torch.get_rng_state()
    return (cpu,) if _shares_cpu_generator(device) else (cpu, torch.get_device_module(device).get_rng_state(device))


@contextmanager
def rng_state(state: RngState, device: torch.device) -> Iterator[None]:
    """A context in which the generators have a state; their present state is restored at its end."""
    before = get_rng_state(device)
    _set(state, device)
    try:
        yield
    finally:
        _set(before, device)


class RngStates:
    """Records the states of the generators during a call.

    Args:
        device: of the sequence.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._states: list[RngState] = []

    def record(self) -> None:
        """Record the present state; an unchanged state takes no memory."""
        now = get_rng_state(self._device)
        if self._states and all(map(torch.equal, now, self._states[-1])):
            now = self._states[-1]
        self._states.append(now)

    def drawing_from(self, k: int) -> AbstractContextManager[None]:
        """A context in which the generators have the k-th recorded state, counted from 0."""
        if self._states[0] is self._states[-1]:
            return nullcontext()  # no numbers were drawn
        return rng_state(self._states[k], self._device)


def _shares_cpu_generator(device: torch.device) -> bool:
    return device.type in ("cpu", "meta")


def _set(state: RngState, device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if not _shares_cpu_generator(device):
        torch.get_device_module(device).set_rng_state(state[1], device)
