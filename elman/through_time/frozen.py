"""What an attribute of a cell says, as a value that can be compared with what it says later."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

SIMPLE = {bool, int, float, str, type(None), FunctionType, BuiltinFunctionType}
NOT_LOOKED_INTO = (nn.Module, Tensor, type, ModuleType)  # modules within a cell have their own turn
BASE = frozenset(vars(nn.Module())) - {"training"}
DEPTH = 2  # objects within objects, whose attributes are looked at


def frozen(value: object, depth: int = DEPTH) -> Any:
    """What a value says, if it is simple or made of simple values, as a container or an object with attributes."""
    if type(value) in SIMPLE:
        return value
    if isinstance(value, list | tuple):
        return tuple(frozen(item, depth) for item in value)
    if isinstance(value, dict):
        return tuple((frozen(key, depth), frozen(item, depth)) for key, item in value.items())
    if depth and not isinstance(value, NOT_LOOKED_INTO) and (own := getattr(value, "__dict__", None)):
        return type(value), frozen(own, depth - 1)
    return type(value)


def options_of(cell: nn.Module) -> tuple[Any, ...]:
    """What the attributes of all modules of a cell say."""
    return tuple(
        tuple((name, frozen(value)) for name, value in vars(module).items() if name not in BASE)
        for module in cell.modules()
    )


class Stand(NamedTuple):
    """How a cell stands: training or evaluation, of each of its modules, and what their attributes say."""

    training: tuple[bool, ...]
    options: tuple[Any, ...]

    @classmethod
    def of(cls, cell: nn.Module) -> "Stand":
        """As it is now."""
        return cls(tuple(module.training for module in cell.modules()), options_of(cell))


@contextmanager
def standing(cell: nn.Module, stand: Stand) -> Iterator[bool]:
    """Within, a cell is in training or in evaluation as it was then; and whether all else is as it was."""
    modules = list(cell.modules())
    now = [module.training for module in modules]
    try:
        for module, training in zip(modules, stand.training, strict=False):
            module.training = training
        yield options_of(cell) == stand.options
    finally:
        for module, training in zip(modules, now, strict=True):
            module.training = training
