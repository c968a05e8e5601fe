"""The sequences of a stream: each one array, or several that belong together step by step."""

from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Number
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.bptt._rows import Span

Array = Tensor | NDArray[Any]
One = Array | tuple[Array, ...]  # a sequence (T, ...)


def parts_of(sequence: One) -> tuple[Array, ...]:
    """The arrays of a sequence, whether there is one or several."""
    return sequence if isinstance(sequence, tuple) else (sequence,)


def by_index(sequences: Any) -> Any:
    """Several sequences as what has `len` and indices: as they are, or else in a list.

    Raises:
        TypeError: for what is not in order.
    """
    indexed = hasattr(sequences, "__len__") and hasattr(sequences, "__getitem__")
    if not isinstance(sequences, Mapping | Set) and (indexed or isinstance(sequences, Iterable)):
        return sequences if indexed else list(sequences)
    raise TypeError(
        f"stream: sequences: expected a tensor or array (T, ...), or several in order, got {type(sequences).__name__}"
    )


def side_by_side(arrays: Mapping[int, Array], spans: Sequence[Span], steps: int, padding: float) -> Tensor:
    """A copy of spans of arrays, which are given by number: one tensor (T, B, ...), padded behind each."""
    # Slices cost NumPy a tenth of what they cost torch. It cannot have tensors on another device, of a dtype that is
    # torch's alone, or that ask for gradients.
    try:
        shared = {k: a.numpy() if isinstance(a, Tensor) else np.asarray(a) for k, a in arrays.items()}
    except (TypeError, RuntimeError):
        return torch.stack([_padded(arrays[span[0]], span, steps, padding) for span in spans], 1)  # type: ignore[arg-type]
    first = shared[spans[0][0]]
    shape, dtype = (steps, len(spans), *first.shape[1:]), first.dtype.newbyteorder("=")
    whole = all(length == steps for _, _, length in spans)
    found = np.empty(shape, dtype) if whole else np.full(shape, padding, dtype)
    for b, (sequence, begin, length) in enumerate(spans):
        found[:length, b] = shared[sequence][begin : begin + length]
    return torch.from_numpy(found)


def _padded(values: Tensor, span: Span, steps: int, padding: float) -> Tensor:
    _, begin, length = span
    real = values[begin : begin + length]
    if length == steps:
        return real
    return torch.cat([real, real.new_full((steps - length, *real.shape[1:]), padding)])


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
        if k == 0 and not all(map(_known, parts)):
            raise TypeError(f"stream: sequence 0: expected numbers that torch has, got {form}")
        first = first or form
        if form != first:
            raise ValueError(f"stream: sequence {k}: expected {first}, as sequence 0 is; got {form}")
        lengths.append(len(parts[0]))
    return lengths


def _form(part: Array) -> str:
    shape = ", ".join(["T", *map(str, part.shape[1:])])
    return f"({shape}) {type(part).__module__.partition('.')[0]}.{str(part.dtype).removeprefix('torch.')}"


def _known(part: Array) -> bool:
    """Whether torch has the dtype."""
    try:
        torch.as_tensor(np.zeros(0, part.dtype.newbyteorder("=")) if isinstance(part, np.ndarray) else part)
    except TypeError:
        return False
    return True


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
        with np.errstate(over="raise"):
            full = side_by_side({0: part}, [(0, 0, 0)], 1, value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return False
    # Compared as Python's numbers: a tensor of small whole numbers takes -100 for what it makes of it.
    return full.is_floating_point() or all(found == value for found in full.flatten()[:1].tolist())
