"""Tensors that a step reads but is not passed, such as an encoder's output in a closure or an attribute."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from elman.engine.torch_private import tree_leaves, tree_map


class ReadMonitor(TorchFunctionMode):
    """A mode that collects the tensors that operations read.

    Attributes:
        tensors: by their `id`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[int, Tensor] = {}

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self.tensors[id(value)] = value
        return func(*args, **(kwargs or {}))


def read_by_both(first: ReadMonitor, second: ReadMonitor, arguments: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Return the tensors that both runs of a step read, except the arguments of the call.

    A tensor that the step computes itself is a new one in the second run, since the first monitor keeps its own alive.
    """
    known = {id(tensor) for tensor in arguments}
    both = (tensor for number, tensor in first.tensors.items() if number in second.tensors and number not in known)
    return tuple(tensor for tensor in both if tensor.is_floating_point() or tensor.is_complex())


class _Substitution(TorchFunctionMode):
    def __init__(self, values: dict[int, Tensor]) -> None:
        super().__init__()
        self._values = values

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(self._value, (tuple(args), kwargs or {}))
        return func(*args, **kwargs)

    def _value(self, leaf: Any) -> Any:
        return self._values.get(id(leaf), leaf)


def substituted(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> AbstractContextManager[object]:
    """A context in which operations on one of the tensors compute with a value in its place."""
    pairs = zip(tensors, values, strict=True)
    return _Substitution({id(tensor): value for tensor, value in pairs}) if tensors else nullcontext()


def unknown_leaf(results: Iterable[Tensor], known: Sequence[Tensor]) -> Tensor | None:
    """Return a leaf of autograd's graph that results were computed from, but not from the known tensors."""
    known_ids = {id(tensor) for tensor in known}
    visited = {tensor.grad_fn for tensor in known}
    stack = [result.grad_fn for result in results if result.grad_fn not in visited]
    visited.update(stack)
    while stack:
        if (node := stack.pop()) is None:
            continue
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in known_ids:
            return leaf  # type: ignore[no-any-return]
        for successor, _ in node.next_functions:
            if successor is not None and successor not in visited:
                visited.add(successor)
                stack.append(successor)
    return None
