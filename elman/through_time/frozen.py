"""What an attribute of a cell says, as a value that can be compared with what it says later."""

from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

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
