"""Decides which operations are computed together in one pass over the columns of rows."""

from collections.abc import Container

from torch.fx import Node

from elman.engine.plan.domains import PRODUCT, Domain, domain_of, match_operand
from elman.engine.plan.layout import (
    Broadcast,
    BroadcastMatch,
    is_arrangement,
    match_columns,
    operation,
    resolve,
    source_columns,
    split_at_blocks,
)
from elman.engine.plan.operations import POINTWISE, REDUCTIONS
from elman.engine.trace.aten import CONSTANT
from elman.engine.trace.errors import CannotCapture, location_of

MAX_HEADS = 64  # heads that may be computed one by one


class FusedStage:
    """The columns at which a fused computation of a value must be cut, and the heads that its operands impose.

    Args:
        node: the value.
        start: the first column.
        size: the number of columns.
        leaves: values that are loaded, not computed.

    Raises:
        CannotCapture: if pointwise code cannot compute the value.
    """

    def __init__(self, node: Node, start: int, size: int, leaves: Container[Node]) -> None:
        self.cuts: set[int] = set()  # columns of the value at which the source of the numbers changes
        self.frames: set[tuple[int, int]] = set()  # heads and width of each broadcast in the computation
        self._begin, self._leaves, self._visited = start, leaves, set[tuple[Node, int, int, int]]()
        self._visit(node, start, size, start)

    def _visit(self, node: Node, start: int, size: int, column: int) -> None:
        """Visit columns start .. start+size of a value, from which columns column .. column+size are computed."""
        if domain_of(node) is Domain.WEIGHT:
            return
        node, start = resolve(node, start, size, self._leaves)
        if (node, start, size, column) in self._visited or node in self._leaves:
            return
        self._visited.add((node, start, size, column))
        if is_arrangement(node):
            for i, (value, first, count) in enumerate(source_columns(node, start, size)):
                if i:
                    self.cuts.add(column)
                self._visit(value, first, count, column)
                column += count
        elif node.target not in PRODUCT and node.target not in REDUCTIONS:
            check_supported(node)
            for value in node.all_input_nodes:
                self._visit_operand(node, value, start, size, column)

    def _visit_operand(self, node: Node, value: Node, start: int, size: int, column: int) -> None:
        match = match_operand(node, value)
        assert match is not None
        used = match_columns(match, start, size)
        if used is not None and used[2] is Broadcast.ELEMENTWISE:
            self._visit(value, *used[:2], column)
        elif used is None or not self._is_uniform(value, *used[:2]):
            self._cut_at_heads(node, value, match, start, size, column)
        elif used[2] is not Broadcast.SCALAR:
            self.frames.add((size // match.width, match.width))

    def _is_uniform(self, value: Node, start: int, size: int) -> bool:
        """Return True if these columns of a value are all computed in the same way."""
        inner = FusedStage(value, start, size, self._leaves)
        return not inner.cuts and not inner.frames

    def _cut_at_heads(self, node: Node, value: Node, match: BroadcastMatch, start: int, size: int, column: int) -> None:
        if match.heads > MAX_HEADS:
            raise CannotCapture(f"{node.target} of broadcast tensors{location_of(node)}")
        for *_, count in split_at_blocks(start, size, match.width):
            self.cuts |= {column} - {self._begin}
            self._visit_operand(node, value, start, count, column)
            start, column = start + count, column + count


def check_supported(node: Node) -> None:
    """Raise CannotCapture unless the node's operation is in the table of operations and its shapes can be matched."""
    line = location_of(node)
    if node.target is CONSTANT:
        return
    if node.target not in POINTWISE:
        raise CannotCapture(f"{operation(node)}, which is not one of the supported operations{line}")
    for value in node.all_input_nodes:
        if match_operand(node, value) is None:
            raise CannotCapture(f"{node.target} of shapes that differ{line}")
