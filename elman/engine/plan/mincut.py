"""Chooses what the forward loop saves for the backward loop, by a minimum cut.

Every value that the backward step uses must be there: stored by the forward loop, or made again of what is stored. To
make it again costs nothing but time, which for sums and comparisons is less than that for a number more in memory. So
values are nodes of a network in which flow comes from what cannot be made again and goes to what is used, and a cut
through the fewest columns says what to store. (L. R. Ford and D. R. Fulkerson, "Maximal Flow through a Network",
Canadian Journal of Mathematics 8, 1956.)
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from math import inf

from torch.fx import Node

from elman.engine.plan.domains import Domain, domain_of
from elman.engine.plan.layout import arranged, inside, width
from elman.engine.plan.operations import POINTWISE, SLOW
from elman.engine.trace.aten import CONSTANT

SOURCE, SINK = "what cannot be made again", "what is used"


def saved_values(values: Sequence[Node], used: Collection[Node], there: Collection[Node]) -> list[Node]:
    """The values to store.

    Args:
        values: of the forward step, in order, each after what it is made of.
        used: those that the backward step uses.
        there: those that it finds stored anyway.
    """
    free: set[Node] = set()  # made of what is there
    edges: dict[tuple[Hashable, Hashable], float] = {}
    for node in values:
        of = _made_of(node)
        if node in there or (of is not None and all(value in free for value in of)):
            free.add(node)
            continue
        edges[(node, "in"), (node, "out")] = width(node)
        if of is None or node.target in SLOW:
            edges[SOURCE, (node, "in")] = inf
        else:
            edges |= {((value, "out"), (node, "in")): inf for value in of if value not in free}
        if node in used:
            edges[(node, "out"), SINK] = inf
    after = _last_cut(edges)
    return [node for node in values if (node, "out") in after and (node, "in") not in after]


def _made_of(node: Node) -> list[Node] | None:
    """The rows that a value can be made of again, element by element; None if it can not."""
    if arranged(node):
        return [value for value, *_ in inside(node, 0, width(node))]
    if node.target is CONSTANT:
        return []
    if node.target not in POINTWISE:
        return None
    return [value for value in node.all_input_nodes if domain_of(value) is Domain.ROW]


def _last_cut(edges: Mapping[tuple[Hashable, Hashable], float]) -> set[Hashable]:
    """What lies behind the minimum cut: of several, behind the one that is nearest to the sink."""
    left: dict[Hashable, dict[Hashable, float]] = {SOURCE: {}, SINK: {}}
    for (a, b), capacity in edges.items():
        left.setdefault(a, {})[b] = left.get(a, {}).get(b, 0) + capacity
        left.setdefault(b, {}).setdefault(a, 0)
    while path := _path(left, SOURCE, lambda a, b: left[a][b] > 0).get(SINK):
        flow = min(left[a][b] for a, b in path)
        for a, b in path:
            left[a][b] -= flow
            left[b][a] += flow
    return set(_path(left, SINK, lambda a, b: left[b][a] > 0))


def _path(
    left: Mapping[Hashable, Mapping[Hashable, float]], start: Hashable, open_: Callable[[Hashable, Hashable], bool]
) -> dict[Hashable, list[tuple[Hashable, Hashable]]]:
    """The shortest way from the start to every place that can be reached, as edges."""
    ways: dict[Hashable, list[tuple[Hashable, Hashable]]] = {start: []}
    todo = deque([start])
    while todo:
        a = todo.popleft()
        for b in left[a]:
            if b not in ways and open_(a, b):
                ways[b] = [*ways[a], (a, b)]
                todo.append(b)
    return ways
