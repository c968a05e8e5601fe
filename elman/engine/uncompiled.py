"""What torch.compile does not look into. It imports the compiler: import it where something is being compiled."""

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]
def outside(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in Python, at a break of the graph."""
    return function(*arguments)
