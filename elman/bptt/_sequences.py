"""The sequences of a stream: each is an array, or a tuple of arrays that belong together step by step."""

from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Number
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.bptt._rows import Span

Array = Tensor | NDArray[Any]
ArrayOrTuple = Array | tuple[Array, ...]  # a sequence (T, ...), or a tuple of parts of equal length


def parts_of(sequence: ArrayOrTuple) -> tuple[Array, ...]:
    """Return the arrays of a sequence, one or several."""
    return sequence if isinstance(sequence, tuple) else (sequence,)


def as_indexable(sequences: Any) -> Any:
    """Return several sequences as they are if they have `len` and indices, and else as a list.

    Raises:
        TypeError: for mappings and sets, which are not in order, and for what is not iterable.
    """
    is_indexable = hasattr(sequences, "__len__") and hasattr(sequences, "__getitem__")
    if not isinstance(sequences, Mapping | Set) and (is_indexable or isinstance(sequences, Iterable)):
        return sequences if is_indexable else list(sequences)
    raise TypeError(
        f"stream: sequences: expected a tensor or array (T, ...), or several in order, got {type(sequences).__name__}"
    )


def stack_spans(arrays: Mapping[int, Array], spans: Sequence[Span], steps: int, padding: float) -> Tensor:
    """Copy spans of arrays, which are keyed by sequence index, into one tensor (T, B, ...), padded behind each span."""
    # Slicing costs a tenth in NumPy of what it costs in torch. NumPy cannot hold tensors on another device, of a dtype
    # that only torch has, or that require gradients.
    try:
        numpy_arrays = {k: a.numpy() if isinstance(a, Tensor) else np.asarray(a) for k, a in arrays.items()}
    except (TypeError, RuntimeError):
        return torch.stack([_slice_and_pad(arrays[span[0]], span, steps, padding) for span in spans], 1)  # type: ignore[arg-type]
    first = numpy_arrays[spans[0][0]]
    shape, dtype = (steps, len(spans), *first.shape[1:]), first.dtype.newbyteorder("=")
    is_full = all(length == steps for _, _, length in spans)
    stacked = np.empty(shape, dtype) if is_full else np.full(shape, padding, dtype)
    for b, (sequence, begin, length) in enumerate(spans):
        stacked[:length, b] = numpy_arrays[sequence][begin : begin + length]
    return torch.from_numpy(stacked)


def _slice_and_pad(values: Tensor, span: Span, steps: int, padding: float) -> Tensor:
    _, begin, length = span
    real = values[begin : begin + length]
    if length == steps:
        return real
    return torch.cat([real, real.new_full((steps - length, *real.shape[1:]), padding)])


def check_sequences(sequences: Sequence[ArrayOrTuple]) -> list[int]:
    """Check that sequences have the same dtypes and trailing shapes, and return their lengths.

    Raises:
        TypeError: for what is not a sequence.
        ValueError: if sequences differ in dtype or trailing shape, or the parts of one differ in length.
    """
    lengths, expected = [], ""
    for k in range(len(sequences)):
        parts = parts_of(sequences[k])
        if not parts or not all(isinstance(part, Tensor | np.ndarray) and part.ndim for part in parts):
            got = ", ".join(type(part).__name__ for part in parts) or "nothing"
            raise TypeError(
                f"stream: sequence {k}: expected a tensor or array (T, ...), or a tuple of these; got {got}"
            )
        if len({len(part) for part in parts}) > 1:
            got = " and ".join(str(len(part)) for part in parts)
            raise ValueError(f"stream: sequence {k}: expected parts of equal length, got {got} steps")
        description = " and ".join(_describe(part) for part in parts)
        if k == 0 and not all(map(_torch_has_dtype, parts)):
            raise TypeError(f"stream: sequence 0: expected a dtype that torch supports, got {description}")
        expected = expected or description
        if description != expected:
            raise ValueError(f"stream: sequence {k}: expected {expected}, as sequence 0 is; got {description}")
        lengths.append(len(parts[0]))
    return lengths


def _describe(part: Array) -> str:
    """Describe shape and dtype, "(T, 3) torch.float32"."""
    shape = ", ".join(["T", *map(str, part.shape[1:])])
    return f"({shape}) {type(part).__module__.partition('.')[0]}.{str(part.dtype).removeprefix('torch.')}"


def _torch_has_dtype(part: Array) -> bool:
    try:
        torch.as_tensor(np.zeros(0, part.dtype.newbyteorder("=")) if isinstance(part, np.ndarray) else part)
    except TypeError:
        return False
    return True


def paddings_for(sequence: ArrayOrTuple, padding: float | Iterable[float]) -> tuple[float, ...]:
    """Return the padding of each part of a sequence, from one number for all parts or one for each.

    Raises:
        ValueError: for another number of paddings, or one that the dtype of a part cannot hold.
    """
    parts = parts_of(sequence)
    paddings = tuple(padding) if isinstance(padding, Iterable) else (padding,) * len(parts)
    if len(paddings) != len(parts):
        raise ValueError(
            f"stream: padding: expected one number, or {len(parts)}, one for each part; got {padding!r:.60}"
        )
    for part, value in zip(parts, paddings, strict=True):
        if not _can_hold(part, value):
            raise ValueError(f"stream: padding: expected a value that {_describe(part)} can hold, got {value!r:.60}")
    return paddings


def _can_hold(part: Array, value: float) -> bool:
    if not isinstance(value, Number | np.generic):  # NumPy would convert None to NaN
        return False
    try:
        with np.errstate(over="raise"):
            padded = stack_spans({0: part}, [(0, 0, 0)], 1, value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return False
    # Compare Python numbers: an unsigned tensor would convert -100 to its own dtype first, and find it equal.
    return padded.is_floating_point() or all(number == value for number in padded.flatten()[:1].tolist())
