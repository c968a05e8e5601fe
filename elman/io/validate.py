"""Validate whole numbers of Python, NumPy, PyTorch or any type with `__index__`.

Not by pydantic: layers and gradient modes are installed without it, and it takes no `__index__`.
"""

import operator

import numpy as np
import torch
from torch import Tensor


def whole(value: object) -> int | None:
    """Return a value as an int by its `__index__`, or None if it is not a whole number. A bool is not one.

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
    """Return a value as an int if it is an integer of at least `least`.

    Args:
        name: name of the argument, for the error message.
        value: the value.
        least: smallest valid value.
        expected: the bound as the error message states it; the default is "at least `least`".

    Raises:
        ValueError: if the value is not a whole number or is too small.
    """
    number = whole(value)
    if number is None or number < least:
        received = value if number is None else number
        raise ValueError(f"{name}: expected an integer of {expected or f'at least {least}'}, got {received!r}")
    return number
