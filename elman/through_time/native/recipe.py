"""Values that no row takes part in, as a function of plain torch."""

from collections.abc import Callable, Sequence

from torch import Tensor, fx, nn

from elman.through_time.graph import aten, unturned


def recipe(given: Sequence[fx.Node], wanted: Sequence[fx.Node | None]) -> Callable[..., list[Tensor | None]]:
    """The function that makes the wanted values of a step of those given, written out by torch.fx."""
    graph = fx.Graph()
    known = {node: graph.placeholder(f"given{i}") for i, node in enumerate(given)}

    def copied(node: fx.Node) -> fx.Node:
        node, turned = unturned(node)
        if node not in known:
            known[node] = graph.node_copy(node, copied)
        return graph.call_function(aten.t.default, (known[node],)) if turned else known[node]

    graph.output([None if node is None else copied(node) for node in wanted])
    function: Callable[..., list[Tensor | None]] = fx.GraphModule(nn.Module(), graph).forward
    return function
