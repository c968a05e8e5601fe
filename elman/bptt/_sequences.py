"""What a stream walks: sequences, each one array or several that belong together step by step."""

from collections.abc import Iterable, Sequence
from numbers import Number
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = Tensor | NDArray[Any]
One = Array | tuple[Array, ...]  # a sequence (T, ...)


def parts_of(sequence: One) -> tuple[Array, ...]:
    """The arrays of a sequence, whether there is one or several."""
    return sequence if isinstance(sequence, tuple) else (sequence,)


def padded(values: Array, begin: int, length: int, steps: int, padding: float) -> Array:
    """So many steps, of which the first `length` are those from `begin` on."""
    real = values[begin : begin + length]
    if length == steps:
        return real
    shape = (steps, *values.shape[1:])
    full: Any = real.new_full(shape, padding) if isinstance(real, Tensor) else np.full(shape, padding, real.dtype)
    full[:length] = real
    return full  # type: ignore[no-any-return]


def side_by_side(rows: Sequence[Array]) -> Tensor:
    """A copy of rows (T, ...) as one tensor (T, B, ...)."""
    if isinstance(rows[0], Tensor):
        return torch.stack(rows, 1)  # type: ignore[arg-type]
    return torch.from_numpy(np.stack(rows, 1))


def lengths_of(sequences: Sequence[One]) -> list[int]:
    """How many steps each sequence has.

    Raises:
        TypeError: for what is no sequence.
        ValueError: if they are not all of one form, or parts of one are not of one length.
    """
    lengths, first = [], ""
    for k in range(len(sequences)):
        parts = parts_of(sequences[k])
        if not parts or not all(isinstance(part, Tensor | np.ndarray) and part.ndim for part in parts):
            came = ", ".join(type(part).__name__ for part in parts) or "nothing"
            raise TypeError(
                f"stream: sequence {k}: expected a tensor or array (T, ...), or a tuple of such; got {came}"
            )
        if len({len(part) for part in parts}) > 1:
            came = " and ".join(str(len(part)) for part in parts)
            raise ValueError(f"stream: sequence {k}: expected parts of one length, got {came} steps")
        form = " and ".join(_form(part) for part in parts)
        first = first or form
        if form != first:
            raise ValueError(f"stream: sequence {k}: expected {first}, as sequence 0 is; got {form}")
        lengths.append(len(parts[0]))
    return lengths


def _form(part: Array) -> str:
    shape = ", ".join(["T", *map(str, part.shape[1:])])
    return f"({shape}) {type(part).__module__.partition('.')[0]}.{str(part.dtype).removeprefix('torch.')}"


def paddings_for(sequence: One, padding: float | Iterable[float]) -> tuple[float, ...]:
    """The padding of each part of a sequence, from one for all or one for each.

    Raises:
        ValueError: for another number of them, or one that a part cannot hold.
    """
    parts = parts_of(sequence)
    found = tuple(padding) if isinstance(padding, Iterable) else (padding,) * len(parts)
    if len(found) != len(parts):
        raise ValueError(
            f"stream: padding: expected one number, or {len(parts)}, one for each part; got {padding!r:.60}"
        )
    for part, value in zip(parts, found, strict=True):
        if not _holds(part, value):
            raise ValueError(f"stream: padding: expected what {_form(part)} can hold, got {value!r:.60}")
    return found


def _holds(part: Array, value: float) -> bool:
    if not isinstance(value, Number | np.generic):  # of None, NumPy would make NaN
        return False
    try:
        full = side_by_side([padded(part, 0, 0, 1, value)])
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False
    # Compared as Python's numbers: a tensor of small whole numbers takes -100 for what it makes of it.
    return full.is_floating_point() or all(found == value for found in full.flatten()[:1].tolist())
