"""Which operations are computed together in one pass over the columns."""

from collections.abc import Container

from torch.fx import Node

from elman.engine.plan.domains import PRODUCT, Domain, domain_of, matching
from elman.engine.plan.layout import Fit, arranged, in_blocks, inside, operation, source, within
from elman.engine.plan.operations import POINTWISE, REDUCTIONS
from elman.engine.trace.aten import CONSTANT
from elman.engine.trace.errors import CannotCapture, place_of

MOST = 64  # heads that may be computed one by one


class FusedStage:
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
        self._begin, self._leaves, self._seen = start, leaves, set[tuple[Node, int, int, int]]()
        self._visit(node, start, size, start)

    def _visit(self, node: Node, start: int, size: int, at: int) -> None:
        """Columns start .. start+size of a value that columns at .. at+size of the whole are made of."""
        if domain_of(node) is Domain.WEIGHT:
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
        elif node.target not in PRODUCT and node.target not in REDUCTIONS:
            check_supported(node)
            for value in node.all_input_nodes:
                self._operand(node, value, start, size, at)

    def _operand(self, node: Node, value: Node, start: int, size: int, at: int) -> None:
        found = matching(node, value)
        assert found is not None
        taken = within(found, start, size)
        if taken is not None and taken[2] is Fit.ALL:
            self._visit(value, *taken[:2], at)
        elif taken is None or not self._plain(value, *taken[:2]):
            self._by_head(node, value, found, start, size, at)
        elif taken[2] is not Fit.ONE:
            self.frames.add((size // found[2], found[2]))

    def _plain(self, value: Node, start: int, size: int) -> bool:
        """Whether columns of a value are computed all in one way."""
        inner = FusedStage(value, start, size, self._leaves)
        return not inner.cuts and not inner.frames

    def _by_head(self, node: Node, value: Node, found: tuple[Fit, int, int], start: int, size: int, at: int) -> None:
        if found[1] > MOST:
            raise CannotCapture(f"{node.target} of parts that are broadcast{place_of(node)}")
        for *_, count in in_blocks(start, size, found[2]):
            self.cuts |= {at} - {self._begin}
            self._operand(node, value, start, count, at)
            start, at = start + count, at + count


def check_supported(node: Node) -> None:
    """Raise CannotCapture unless the table of operations has the node's operation, on shapes that can be matched."""
    line = place_of(node)
    if node.target is CONSTANT:
        return
    if node.target not in POINTWISE:
        raise CannotCapture(f"{operation(node)}, which is not in the table of operations{line}")
    for value in node.all_input_nodes:
        if matching(node, value) is None:
            raise CannotCapture(f"{node.target} of shapes that differ{line}")
