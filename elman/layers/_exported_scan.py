"""Layers under torch.export with strict=True: a function that torch.compile puts in its graph without looking into it.

This module imports the compiler, so layers import it only while torch.compile traces them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from elman.layers._exported import fake_results, run_layer


@torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]
def scan_layer(*arguments: Any) -> list[Tensor]:
    """Run a layer with the arguments of `elman::exported_layer`; torch.export traces the scan that it becomes."""
    # torch.compile asks for the results first, on fake tensors.
    return fake_results(*arguments) if get_proxy_mode() is None else run_layer(*arguments)
