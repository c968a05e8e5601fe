"""Shape, line, name and domain (`plan.domains`) of each value of a captured step: the only uses of `node.meta`."""

from torch.fx import Node


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of a value.

    Raises:
        KeyError: for a split, of which only the pieces have one.
    """
    shape: tuple[int, ...] = node.meta["shape"]
    return shape


def has_shape(node: Node) -> bool:
    """Whether a value is a tensor, and not a tuple of pieces."""
    return "shape" in node.meta


def set_shape(node: Node, shape: tuple[int, ...]) -> None:
    """Note the shape of a value."""
    node.meta["shape"] = tuple(shape)


def line_of(node: Node) -> str:
    """Where in the cell's own code an operation stands, " (file, line n)"; "" in the backward step."""
    return node.meta.get("line") or ""


def set_line(node: Node, line: str) -> None:
    """Note where in the cell's own code an operation stands."""
    node.meta["line"] = line


def name_of(node: Node) -> str:
    """The name that the cell gives a value, or that of the graph."""
    return node.meta.get("name") or node.name


def set_name(node: Node, name: str) -> None:
    """Note the name that the cell gives a value."""
    node.meta["name"] = name


def kind_of(node: Node) -> object:
    """What the planner has noted of a value: its domain.

    Raises:
        KeyError: if it has not been planned.
    """
    return node.meta["domain"]


def set_kind(node: Node, kind: object) -> None:
    """Note the domain of a value."""
    node.meta["domain"] = kind
