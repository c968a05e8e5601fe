"""From a cell to its plan."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from elman.engine.plan.planner import Plan, plan
from elman.engine.trace.capture import MARKERS, capture
from elman.engine.trace.errors import CannotCapture


def plan_cell(
    cell: nn.Module,
    shapes: Mapping[str, torch.Size],
    input_size: int,
    state_size: int | tuple[int, ...],
    check: Callable[[Plan], None],
) -> Plan:
    """Capture and plan a cell.

    Args:
        cell: as for `capture`.
        shapes: as for `capture`.
        input_size: as for `capture`.
        state_size: as for `capture`.
        check: raises `CannotCapture` for a plan that cannot be used.

    Raises:
        CannotCapture: if the cell is not a fixed graph of known operations on rows.
    """
    for marker in MARKERS:
        try:
            step, verify = capture(cell, shapes, input_size, state_size, marker)
            planned = plan(step)
            check(planned)
            verify()  # after planning, which finds the operation, and its line, that mixes rows
        except CannotCapture as refusal:
            reason = refusal
        else:
            return planned
    raise reason
