"""Captures the autocast state, to compute later in the same precision."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from elman.engine.torch_private import is_autocast_available, is_autocasting

Precision = Callable[[], AbstractContextManager[object]]


def autocast_dtype(device: str) -> torch.dtype | None:
    """Return the dtype of autocast on a kind of device; None if autocast is off."""
    if not (is_autocasting() and is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return None
    return torch.get_autocast_dtype(device)


def autocast(device: str) -> Precision:
    """Return a function that makes contexts with the present autocast state of a kind of device."""
    if not is_autocast_available(device):
        return nullcontext
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    cached = torch.is_autocast_cache_enabled()
    return lambda: torch.autocast(device, dtype, enabled, cached)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype, such as "float32"."""
    return str(dtype).removeprefix("torch.")


def autocast_name(device: str) -> str | None:
    """Return the name of `autocast_dtype`, for operators, which take strings."""
    dtype = autocast_dtype(device)
    return None if dtype is None else dtype_name(dtype)


def autocast_by_name(device: str, name: str | None) -> AbstractContextManager[object]:
    """A context with autocast to a dtype, or with autocast as it is if the name is None."""
    return nullcontext() if name is None else torch.autocast(device, getattr(torch, name))


def uncast(device: str = "cpu") -> AbstractContextManager[object]:
    """A context without autocast, as in backward passes and the native executor."""
    return torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext()
