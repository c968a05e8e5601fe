"""Parses and formats amounts of memory, and measures what autograd saves for each step."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elman.engine import State, as_tuple, run
from elman.engine.rng_state import get_rng_state, rng_state
from elman.numbers import whole

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
    """Bytes of tensors saved for backward."""

    step: int  # per step, with its output
    state: int  # per state between two segments


def measure_saved_size(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, executor: str, sizes: Tensor | None
) -> SavedSize:
    """Measure what a call saves for backward per step, as the difference between runs of two steps and of one."""

    def measure(steps: int) -> int:
        rows = x[:steps] if sizes is None else x[: int(sizes[:steps].sum())]
        bytes_at: dict[int, int] = {}  # by address, so that tensors that share memory count once

        def record(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            bytes_at[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            output, _ = run(cell, parameters, rows, state, executor, None if sizes is None else sizes[:steps])
        for value in output.values() if isinstance(output, dict) else (output,):
            record(value)
        for argument in (x, *as_tuple(state), *parameters.values()):
            bytes_at.pop(argument.untyped_storage().data_ptr(), None)
        return sum(bytes_at.values())

    with rng_state(get_rng_state(x.device), x.device):
        measure(1)  # the first call of a cell compiles it, and saves more
        return SavedSize(measure(2) - measure(1), sum(s.nbytes for s in as_tuple(state)))
