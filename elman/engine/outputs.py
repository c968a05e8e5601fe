"""The output of a step, one tensor or several by name. Several are stored side by side in one row."""

from collections.abc import Sequence
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

One = TypeVar("One", int, Tensor)
State = Tensor | tuple[Tensor, ...]
Output = Tensor | dict[str, Tensor]
Form = tuple[tuple[str, tuple[int, ...]], ...]  # names and shapes without the batch; a single tensor has the name ""


def as_tuple(of: One | tuple[One, ...]) -> tuple[One, ...]:
    """Return a state, or its sizes, as a tuple of states, whether there is one or several.

    Args:
        of: a tensor or a size, or a tuple of them.

    >>> as_tuple(5), as_tuple((5, 4))
    ((5,), (5, 4))
    """
    return tuple(of) if isinstance(of, tuple | list) else (of,)


def output_form(output: Output) -> Form:
    """Return the names and shapes of the outputs of a step."""
    named = {"": output} if isinstance(output, Tensor) else output
    return tuple((name, tuple(value.shape[1:])) for name, value in named.items())


def row_width(form: Form) -> int:
    """Return how many numbers a row with all outputs has."""
    return sum(prod(shape) for _, shape in form)


def output_state_indices(output: Output, states: Sequence[Tensor]) -> tuple[int | None, ...]:
    """Return for each output the index of the state that it is; None if it is not a state."""
    indices = {id(state): i for i, state in reversed(list(enumerate(states)))}
    return tuple(indices.get(id(value)) for value in output_tensors(output))


def flatten_output(output: Output, lead: int = 1) -> Tensor:
    """Concatenate all outputs along one axis, behind `lead` axes of batch and time."""
    if isinstance(output, Tensor) and output.dim() == lead + 1:
        return output
    rows = [v.flatten(lead) if v.dim() > lead else v.unsqueeze(-1) for v in output_tensors(output)]
    return torch.cat(rows, -1)


def unflatten_output(rows: Tensor, form: Form) -> Output:
    """Split rows (T, B, width) into outputs of the given names and shapes: the inverse of `flatten_output`."""
    parts = rows.split([prod(shape) for _, shape in form], -1)
    values = [part.unflatten(-1, shape) if len(shape) > 1 else part.reshape(*part.shape[:-1], *shape)
              for part, (_, shape) in zip(parts, form, strict=True)]  # fmt: skip
    return values[0] if form[0][0] == "" else dict(zip((name for name, _ in form), values, strict=True))


def stack_outputs(outputs: Sequence[Output], packed: bool = False) -> Output:
    """Stack the outputs of all steps to (T, B, ...), or concatenate them, packed, to (N, ...)."""
    first, join = outputs[0], torch.cat if packed else torch.stack
    if isinstance(first, Tensor):
        return join([output for output in outputs if isinstance(output, Tensor)])
    return {name: join([output[name] for output in outputs]) for name in first}  # type: ignore[index]


def output_tensors(output: Output) -> Sequence[Tensor]:
    """Return the outputs as a sequence, whether there is one or several."""
    return (output,) if isinstance(output, Tensor) else tuple(output.values())
