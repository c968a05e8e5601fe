"""The cells that a layer runs over time in evaluation, one after another: what exporters write."""

from typing import NamedTuple

from elman.engine import CellSpec


class CellRun(NamedTuple):
    """One direction of one layer.

    Attributes:
        spec: the cell in its wrappers, with the values of its parameters.
        state_names: of the cell, such as h and c.
        layer: its number from the lowest up; it reads the outputs of all directions of the layer below, concatenated.
        is_reverse: it reads the sequences from their ends.
    """

    spec: CellSpec
    state_names: tuple[str, ...]
    layer: int = 0
    is_reverse: bool = False
