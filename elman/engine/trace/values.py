"""Metadata of the values of a captured step: shape, source line, name and domain (`plan.domains`).

No other file reads or writes `node.meta`.
"""

from torch.fx import Node


def shape_of(node: Node) -> tuple[int, ...]:
    """Return the shape of a value.

    Raises:
        KeyError: for a split, which returns several tensors; each of these has a shape.
    """
    shape: tuple[int, ...] = node.meta["shape"]
    return shape


def has_shape(node: Node) -> bool:
    """Whether a value is a tensor rather than the tuple that a split returns."""
    return "shape" in node.meta


def set_shape(node: Node, shape: tuple[int, ...]) -> None:
    """Store the shape of a value."""
    node.meta["shape"] = tuple(shape)


def line_of(node: Node) -> str:
    """Return the line of the cell's code that an operation comes from, " (file, line n)"; "" in the backward step."""
    return node.meta.get("line") or ""


def set_line(node: Node, line: str) -> None:
    """Store the line of the cell's code that an operation comes from, as `line_of` returns it."""
    node.meta["line"] = line


def name_of(node: Node) -> str:
    """Return the name that the cell gives a value (`elman.named`), or else its name in the graph."""
    return node.meta.get("name") or node.name


def set_name(node: Node, name: str) -> None:
    """Store the name that the cell gives a value."""
    node.meta["name"] = name


def stored_domain(node: Node) -> object:
    """Return the domain that the planner has stored for a value.

    Raises:
        KeyError: if the value has not been planned.
    """
    return node.meta["domain"]


def set_domain(node: Node, domain: object) -> None:
    """Store the domain of a value."""
    node.meta["domain"] = domain
