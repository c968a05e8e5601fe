"""Devices: which one an accelerator is, and moving batches to it."""

from typing import Any

import torch
from torch import Tensor, nn

from elman.engine.torch_private import tree_map_only
from elman.errors import BadInput


def find_device(accelerator: str) -> torch.device:
    """Return the device of an accelerator on this machine.

    Args:
        accelerator: "cpu"; "gpu", a GPU of CUDA or ROCm, else Apple's; "mps", Apple's; "auto", a GPU of CUDA or ROCm,
            else the CPU. "auto" leaves out Apple's GPU, which has no float64 and lacks operations.

    Raises:
        BadInput: if this machine has no such device.

    >>> find_device("cpu")
    device(type='cpu')
    """
    has_gpu = accelerator in ("auto", "gpu") and torch.cuda.is_available()
    if has_gpu:
        return torch.device("cuda", 0)
    if accelerator in ("auto", "cpu"):
        return torch.device("cpu")
    if torch.backends.mps.is_available():
        return torch.device("mps", 0)
    expected = "a GPU" if accelerator == "gpu" else "the GPU of an Apple computer"
    raise BadInput(
        f"--accelerator {accelerator}: expected {expected}, got none that torch {torch.__version__} can use; pass "
        "--accelerator cpu"
    )


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the parameters of a model."""
    return next(model.parameters()).device


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch, any nesting of tuples, lists and dicts, with its tensors on a device."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), batch)
