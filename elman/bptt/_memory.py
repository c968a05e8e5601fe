"""Parses and formats amounts of memory, and measures what autograd saves for each step."""

import re
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from elman.engine import Inputs, run
from elman.engine.outputs import output_tensors
from elman.engine.rng_state import get_rng_state, rng_state
from elman.io.validate import whole

UNITS = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
AMOUNT = re.compile(r"(\d+|\d*\.\d+)\s*([a-z]+)", re.IGNORECASE)


def parse_size(memory: object) -> float:
    """Convert an amount of memory, "512MB" or a number, to bytes; 0 for anything else."""
    if (size := whole(memory)) is not None:
        return max(size, 0)
    match = AMOUNT.fullmatch(memory.strip()) if isinstance(memory, str) else None
    return float(match[1]) * UNITS.get(match[2].lower(), 0) if match else 0


def format_size(size: float) -> str:
    """Format a number of bytes, "1.2 GB"."""
    unit = next(unit for unit in ("TB", "GB", "MB", "KB", "B") if size >= UNITS[unit.lower()] or unit == "B")
    return f"{size / UNITS[unit.lower()]:.3g} {unit}"


class SavedSize(NamedTuple):
    """Bytes that are saved for the backward pass.

    Attributes:
        call: of every call, whatever its length: oneDNN's functions allocate whole pages.
        step: of every step, with its output.
        state: of the states between two segments.
    """

    call: int
    step: int
    state: int


def measure_saved_size(inputs: Inputs, executor: str) -> SavedSize:
    """Measure what a call saves for each of its steps, by running one step and up to nine."""

    def measure(steps: int) -> int:
        storages: dict[int, int] = {}  # addresses and sizes

        def add(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(add, lambda tensor: tensor):
            output, _ = run(inputs.first(steps), executor)
        for value in output_tensors(output):
            add(value)
        for tensor in inputs.tensors:
            storages.pop(tensor.untyped_storage().data_ptr(), None)
        return sum(storages.values())

    device = inputs.x.device
    with rng_state(get_rng_state(device), device):
        measure(1)  # compiles a new cell, which allocates more than its steps do
        one, steps = measure(1), min(inputs.steps, 9)
        step = ceil((measure(steps) - one) / (steps - 1))
        return SavedSize(max(one - step, 0), step, sum(state.nbytes for state in inputs.states))
