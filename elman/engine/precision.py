"""Captures the autocast state, to compute later in the same precision."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

Precision = Callable[[], AbstractContextManager[object]]


def autocast(device: str) -> Precision:
    """What makes a context whose precision, on a kind of device, is that of now."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    cached = torch.is_autocast_cache_enabled()
    return lambda: torch.autocast(device, dtype, enabled, cached)


def uncast(device: str = "cpu") -> AbstractContextManager[object]:
    """A context that computes in the precision of what is given, as the native executor does, and a backward pass."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
