"""Chooses what the forward loop saves for the backward loop, by a minimum cut.

Every value that the backward step uses must be saved by the forward loop or recomputed from what is saved. Recomputing
costs only time, and for sums and comparisons less than loading one more number from memory. So values are the nodes of
a flow network, as in AOTAutograd's min-cut partitioner: flow enters at values that cannot be recomputed and leaves at
values that are used, the capacity of a value is its width, and a minimum cut is the narrowest set of values to save.
(L. R. Ford and D. R. Fulkerson, "Maximal Flow through a Network", Canadian Journal of Mathematics 8, 1956; augmenting
paths are the shortest ones: J. Edmonds and R. M. Karp, Journal of the ACM 19, 1972.)
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from math import inf

from torch.fx import Node

from elman.engine.plan.domains import Domain, domain_of
from elman.engine.plan.layout import is_arrangement, source_columns, width
from elman.engine.plan.operations import POINTWISE, SLOW
from elman.engine.trace.aten import CONSTANT

SOURCE, SINK = "cannot be recomputed", "is used"


def saved_values(values: Sequence[Node], used: Collection[Node], available: Collection[Node]) -> list[Node]:
    """Return the values to save.

    Args:
        values: of the forward step, topologically sorted.
        used: the values that the backward step uses.
        available: the values that are in memory in any case.
    """
    free: set[Node] = set()  # can be computed from what is available
    edges: dict[tuple[Hashable, Hashable], float] = {}
    for node in values:
        inputs = _recomputed_from(node)
        if node in available or (inputs is not None and all(value in free for value in inputs)):
            free.add(node)
            continue
        # A value is split in two nodes, so that the edge between them has its capacity.
        edges[(node, "in"), (node, "out")] = width(node)
        if inputs is None or node.target in SLOW:
            edges[SOURCE, (node, "in")] = inf
        else:
            edges |= {((value, "out"), (node, "in")): inf for value in inputs if value not in free}
        if node in used:
            edges[(node, "out"), SINK] = inf
    after = _sink_side(edges)
    return [node for node in values if (node, "out") in after and (node, "in") not in after]


def _recomputed_from(node: Node) -> list[Node] | None:
    """Return the rows that a value can be recomputed from, element by element; None if it cannot."""
    if is_arrangement(node):
        return [value for value, *_ in source_columns(node, 0, width(node))]
    if node.target is CONSTANT:
        return []
    if node.target not in POINTWISE:
        return None
    return [value for value in node.all_input_nodes if domain_of(value) is Domain.ROW]


def _sink_side(edges: Mapping[tuple[Hashable, Hashable], float]) -> set[Hashable]:
    """Return the nodes on the sink's side of a minimum cut; of several cuts, of the one nearest to the sink."""
    residual: dict[Hashable, dict[Hashable, float]] = {SOURCE: {}, SINK: {}}
    for (a, b), capacity in edges.items():
        residual.setdefault(a, {})[b] = residual.get(a, {}).get(b, 0) + capacity
        residual.setdefault(b, {}).setdefault(a, 0)
    while path := _shortest_paths(residual, SOURCE, lambda a, b: residual[a][b] > 0).get(SINK):
        flow = min(residual[a][b] for a, b in path)
        for a, b in path:
            residual[a][b] -= flow
            residual[b][a] += flow
    return set(_shortest_paths(residual, SINK, lambda a, b: residual[b][a] > 0))


def _shortest_paths(
    graph: Mapping[Hashable, Mapping[Hashable, float]], start: Hashable, is_open: Callable[[Hashable, Hashable], bool]
) -> dict[Hashable, list[tuple[Hashable, Hashable]]]:
    """Return the shortest path from the start to every node that can be reached, as edges."""
    paths: dict[Hashable, list[tuple[Hashable, Hashable]]] = {start: []}
    queue = deque([start])
    while queue:
        a = queue.popleft()
        for b in graph[a]:
            if b not in paths and is_open(a, b):
                paths[b] = [*paths[a], (a, b)]
                queue.append(b)
    return paths
