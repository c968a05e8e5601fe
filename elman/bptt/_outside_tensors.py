"""Tensors that a step reads but is not passed, such as an encoder's output in a closure or an attribute."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from elman.engine.torch_private import tree_leaves, tree_map


class ReadMonitor(TorchFunctionMode):
    """Under it, the tensors that operations read are noted in `tensors`, by their `id`."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[int, Tensor] = {}

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self.tensors[id(value)] = value
        return func(*args, **(kwargs or {}))


def in_both(first: ReadMonitor, second: ReadMonitor, own: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The tensors that two runs of one step have both read, without those of its call.

    What a step has made itself is another tensor in the second run, as long as those of the first one live.
    """
    known = {id(tensor) for tensor in own}
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
    """Within, operations that are given one of the tensors compute with a value in its place."""
    pairs = zip(tensors, values, strict=True)
    return _Substitution({id(tensor): value for tensor, value in pairs}) if tensors else nullcontext()


def unknown_leaf(results: Iterable[Tensor], known: Iterable[Tensor]) -> Tensor | None:
    """A leaf of autograd's graph that results were computed from, and which is none of those that are known."""
    leaves = {id(tensor) for tensor in known}
    left = [result.grad_fn for result in results if result.grad_fn is not None]
    seen = set(left)
    while left:
        node = left.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in leaves:
            return leaf  # type: ignore[no-any-return]
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                left.append(after)
    return None
