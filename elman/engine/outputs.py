"""What a step returns: a state and an output. Several outputs are stored side by side in one row."""

from collections.abc import Sequence
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

One = TypeVar("One", int, Tensor)
State = Tensor | tuple[Tensor, ...]
Output = Tensor | dict[str, Tensor]
Form = tuple[tuple[str, tuple[int, ...]], ...]  # names and shapes without the batch; "" is the only one's name


def as_tuple(of: One | tuple[One, ...]) -> tuple[One, ...]:
    """Return the states of a state, or its sizes, as a tuple, whether there is one or several."""
    return (of,) if isinstance(of, int | Tensor) else tuple(of)


def output_form(output: Output) -> Form:
    """The names and shapes of what a step gives."""
    named = {"": output} if isinstance(output, Tensor) else output
    return tuple((name, tuple(value.shape[1:])) for name, value in named.items())


def row_width(form: Form) -> int:
    """How many numbers a row of all of them has."""
    return sum(prod(shape) for _, shape in form)


def states_shown(output: Output, states: Sequence[Tensor]) -> tuple[int | None, ...]:
    """Of each output, which of the states it is; None for one that is a value of its own."""
    places = {id(state): i for i, state in reversed(list(enumerate(states)))}
    return tuple(places.get(id(value)) for value in output_tensors(output))


def flatten_output(output: Output, lead: int = 1) -> Tensor:
    """All side by side, behind the `lead` axes of batch and time."""
    if isinstance(output, Tensor) and output.dim() == lead + 1:
        return output
    rows = [v.flatten(lead) if v.dim() > lead else v.unsqueeze(-1) for v in output_tensors(output)]
    return torch.cat(rows, -1)


def unflatten_output(rows: Tensor, form: Form) -> Output:
    """Rows of all of them, (T, B, width), as what they were."""
    pieces = rows.split([prod(shape) for _, shape in form], -1)
    values = [piece.unflatten(-1, shape) if len(shape) > 1 else piece.reshape(*piece.shape[:-1], *shape)
              for piece, (_, shape) in zip(pieces, form, strict=True)]  # fmt: skip
    return values[0] if form[0][0] == "" else dict(zip((name for name, _ in form), values, strict=True))


def stack_outputs(outputs: Sequence[Output], packed: bool = False) -> Output:
    """Those of every step as (T, B, ...), or packed, (N, ...)."""
    first, joined_up = outputs[0], torch.cat if packed else torch.stack
    if isinstance(first, Tensor):
        return joined_up([output for output in outputs if isinstance(output, Tensor)])
    return {name: joined_up([output[name] for output in outputs]) for name in first}  # type: ignore[index]


def output_tensors(output: Output) -> Sequence[Tensor]:
    """The outputs of an output, whether there is one or several."""
    return (output,) if isinstance(output, Tensor) else tuple(output.values())
