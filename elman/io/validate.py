"""Whole numbers as they are given: Python's, NumPy's and what else stands for one."""

import operator

import numpy as np
import torch
from torch import Tensor


def whole(value: object) -> int | None:
    """The whole number that a value is, by its `__index__`; None for what is none, a bool among it.

    >>> import numpy as np
    >>> whole(np.int64(20)), whole(20.0), whole(True)
    (20, None, None)
    """
    if isinstance(value, bool | np.bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_whole(name: str, value: object, least: int, expected: str = "") -> int:
    """A whole number of at least `least`, if it is one.

    Args:
        name: what it is, for the message.
        value: what was given.
        least: the smallest that can be.
        expected: how the message tells of that; "at least 1" by itself.

    Raises:
        ValueError: if it is none, or a smaller one.
    """
    found = whole(value)
    if found is None or found < least:
        came = value if found is None else found
        raise ValueError(f"{name}: expected a whole number of {expected or f'at least {least}'}, got {came!r}")
    return found
