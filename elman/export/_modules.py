"""Helpers of exporters for modules: the layers among them, chains of modules, inputs and outputs, evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from elman.layers._layer import Layer


def is_layer(module: nn.Module) -> TypeGuard[Layer]:
    """Return True for a layer of elman with the forward of its class, rather than a model that contains layers."""
    return (
        isinstance(module, Layer)
        and "forward" not in vars(module)
        and type(module).forward.__module__.startswith("elman.")
        and not (module._forward_hooks or module._forward_pre_hooks)
    )


class ModuleChain(nn.Module):
    """Modules one after the other; recurrent layers begin with a state of zeros and pass their outputs on."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Map the input of the first to the output of the last."""
        for module in self.parts:
            x = module(x)[0] if isinstance(module, Layer) else module(x)
        return x


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set all modules to evaluation within, and back to their modes afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def input_size_of(layer: nn.Module) -> int | None:
    """The width of a layer's input; None if it is not known."""
    size = getattr(layer, "input_size", getattr(getattr(layer, "cell", None), "input_size", None))
    return size if isinstance(size, int) else None


def example_input(module: nn.Module, T: int, B: int, generator: torch.Generator) -> Tensor:
    """Return a random input of a layer, (T, B, D), or (B, T, D) with `batch_first`.

    Raises:
        ValueError: for a module that is no layer with a known input size.
    """
    size = input_size_of(module) if is_layer(module) else None
    if size is None:
        raise ValueError(
            f"{type(module).__name__}: inputs: expected example inputs, since the size of the input is not known; pass "
            "inputs=, a tensor or a tuple of tensors"
        )
    lead = (B, T) if module.batch_first else (T, B)
    dtype = next((value.dtype for value in module.parameters()), torch.float32)
    return torch.randn(*lead, size, generator=generator).to(dtype)


def flat_outputs(outputs: Any) -> list[Tensor]:
    """The outputs of a layer, one tensor or several by name, as a list."""
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]
