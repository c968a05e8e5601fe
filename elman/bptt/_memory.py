"""Amounts of memory: parsed, formatted, and estimated for a step."""

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
    """The bytes of an amount of memory, "512MB" or a number; 0 for what is none."""
    if (size := whole(memory)) is not None:
        return max(size, 0)
    found = AMOUNT.fullmatch(memory.strip()) if isinstance(memory, str) else None
    return float(found[1]) * UNITS.get(found[2].lower(), 0) if found else 0


def format_size(size: float) -> str:
    """So many bytes in words, "1.2 GB"."""
    unit = next(unit for unit in ("TB", "GB", "MB", "KB", "B") if size >= UNITS[unit.lower()] or unit == "B")
    return f"{size / UNITS[unit.lower()]:.3g} {unit}"


class SavedSize(NamedTuple):
    """Bytes that are kept for the backward step."""

    step: int  # of every step, with its output
    state: int  # of a state between two segments


def saved_size(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, executor: str, sizes: Tensor | None
) -> SavedSize:
    """What a call keeps of each of its steps: found by running one and two."""

    def first(steps: int) -> int:
        rows = x[:steps] if sizes is None else x[: int(sizes[:steps].sum())]
        pieces: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            memory = tensor.untyped_storage()
            pieces[memory.data_ptr()] = memory.nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output, _ = run(cell, parameters, rows, state, executor, None if sizes is None else sizes[:steps])
        for value in output.values() if isinstance(output, dict) else (output,):
            note(value)
        for there in (x, *as_tuple(state), *parameters.values()):
            pieces.pop(there.untyped_storage().data_ptr(), None)
        return sum(pieces.values())

    with rng_state(get_rng_state(x.device), x.device):
        first(1)  # a cell that is new is compiled, which keeps more than its steps
        return SavedSize(first(2) - first(1), sum(s.nbytes for s in as_tuple(state)))
