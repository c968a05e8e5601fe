"""Calls a function outside of torch.compile. Imports the compiler, so import it late."""

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]
def outside(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in Python, at a graph break."""
    return function(*arguments)
