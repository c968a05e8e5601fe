"""How columns of a value are computed, element by element."""

from collections.abc import Container

from torch.fx import Node

from elman.through_time.columns import Fit, arranged, inside, operation, source, width
from elman.through_time.graph import PRODUCT, Domain, matching
from elman.through_time.operations import POINTWISE, REDUCING
from elman.through_time.recorder import CONSTANT, CannotCapture, line_of


class Work:
    """How columns of a value are computed: where their sources change, and how what is broadcast lies in them.

    Args:
        node: the value.
        start: the first column.
        size: how many columns.
        leaves: values that are there.

    Raises:
        CannotCapture: for what no pointwise code can make.
    """

    def __init__(self, node: Node, start: int, size: int, leaves: Container[Node]) -> None:
        self.cuts: set[int] = set()  # columns, counted from the value's first
        self.frames: set[tuple[int, int]] = set()  # heads and width
        self._leaves, self._seen = leaves, set[tuple[Node, int, int, int]]()
        self._visit(node, start, size, start)

    def _visit(self, node: Node, start: int, size: int, at: int) -> None:
        """Columns start .. start+size of a value that columns at .. at+size of the whole are made of."""
        if node.meta["domain"] is Domain.WEIGHT:
            return
        node, start = source(node, start, size, self._leaves)
        if (node, start, size, at) in self._seen or node in self._leaves:
            return
        self._seen.add((node, start, size, at))
        if arranged(node):
            for i, (value, first, count) in enumerate(inside(node, start, size)):
                if i:
                    self.cuts.add(at)
                self._visit(value, first, count, at)
                at += count
        elif node.target not in PRODUCT and node.target not in REDUCING:
            check(node)
            for value in node.all_input_nodes:
                self._operand(node, value, start, size, at)

    def _operand(self, node: Node, value: Node, start: int, size: int, at: int) -> None:
        found = matching(node, value)
        assert found is not None
        how, heads, each = found
        if how is Fit.ALL:
            self._visit(value, start, size, at)
            return
        if how is not Fit.ONE:
            self.frames.add((heads, each))
            if start or size != heads * each:
                raise CannotCapture(f"{node.target} of parts that are broadcast{line_of(node)}")
        if value.meta["domain"] is not Domain.WEIGHT:
            inner = Work(value, 0, width(value), self._leaves)
            if inner.cuts or inner.frames:
                raise CannotCapture(f"{node.target} of parts that are broadcast{line_of(node)}")


def check(node: Node) -> None:
    """Raise CannotCapture unless the table of operations has the node's operation, on shapes that can be matched."""
    line = line_of(node)
    if node.target is CONSTANT:
        return
    if node.target not in POINTWISE:
        raise CannotCapture(f"{operation(node)}, which is not in the table of operations{line}")
    for value in node.all_input_nodes:
        if matching(node, value) is None:
            raise CannotCapture(f"{node.target} of shapes that differ{line}")
