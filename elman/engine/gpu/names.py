"""The names of pointers in generated kernels."""

import re

from torch.fx import Node

from elman.engine.plan.ir import Buffer, BufferKind

SUFFIXES = {
    BufferKind.PREVIOUS: "_previous",
    BufferKind.CURRENT: "_current",
    BufferKind.COTANGENT: "_current",
    BufferKind.NEXT: "_next",
}


def memory_name(buffer: Buffer) -> str:
    """Return the name of the memory of a buffer."""
    return re.sub(r"\W", "_", buffer.name)


def pointer_name(buffer: Buffer) -> str:
    """Return the name of the pointer to the rows of a buffer at a step."""
    return memory_name(buffer) + SUFFIXES.get(buffer.kind, "")


def parameter_name(node: Node) -> str:
    """Return the name of the pointer to a parameter, or to a value computed from parameters."""
    return f"p_{node.name}"
