"""What all layers share."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from elman.bptt import Mode
from elman.through_time import Output, State


class Layer(nn.Module):
    """What every layer does at its door: layouts, unbatched input, a state of zeros, checks."""

    batch_first: bool
    bptt: Mode
    executor: str

    def _enter(
        self,
        input: Tensor,
        input_size: int | None,
        like: Tensor | None,
        given: object,
        widths: Sequence[int],
        lead: tuple[int, ...] = (),
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The input as (T, B, D), and states of these widths as (*lead, B, width): those given, or zeros.

        The input must have the dtype and the device of a parameter `like` it, if there is one, and the states too.
        """
        x = self._time_major(input, input_size)
        self._alike("input", input, like)
        batch = (x.shape[1],) if input.dim() == 3 else ()
        shapes = [(*lead, *batch, width) for width in widths]
        if given is None:
            zeros = {shape: x.new_zeros(shape) for shape in dict.fromkeys(shapes)}
            states = tuple(zeros[shape] for shape in shapes)
        else:
            states = tuple(given) if isinstance(given, tuple | list) else (given,)  # type: ignore[assignment]
            got = [_shape(state) for state in states]
            if got != shapes:
                expected, came = (" and ".join(map(str, of)) or "no tensor" for of in (shapes, got))
                raise ValueError(f"{type(self).__name__}: state: expected shape {expected}, got {came}")
            for state in states:
                self._alike("state", state, like)
        return x, states if batch else tuple(state.unsqueeze(-2) for state in states)

    def _alike(self, name: str, tensor: Tensor, like: Tensor | None) -> None:
        if like is None or (tensor.dtype == like.dtype and tensor.device == like.device):
            return
        device = like.device.type
        casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        cast = casts and tensor.is_floating_point()
        for what in ("device",) if cast else ("dtype", "device"):
            expected, came = getattr(like, what), getattr(tensor, what)
            if expected != came:
                raise ValueError(
                    f"{type(self).__name__}: {name}: expected {what} {expected}, which the parameters have, got {came}"
                )

    def _time_major(self, input: Tensor, input_size: int | None) -> Tensor:
        name = f"{type(self).__name__}: input"
        layout = "(B, T, D)" if self.batch_first else "(T, B, D)"
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: expected a tensor {layout}, got {type(input).__name__}")
        shape = tuple(input.shape)
        if len(shape) not in (2, 3):
            raise ValueError(f"{name}: expected {layout} or (T, D), got shape {shape}")
        if input_size is not None and shape[-1] != input_size:
            raise ValueError(f"{name}: expected width {input_size} (input_size), got {shape[-1]} in shape {shape}")
        x = input.unsqueeze(1) if len(shape) == 2 else input.transpose(0, 1) if self.batch_first else input
        if x.shape[0] == 0:
            raise ValueError(f"{name}: expected at least one time step, got shape {shape}")
        return x

    def _through_time(
        self, cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State
    ) -> tuple[Any, State]:
        """Run a cell over x (T, B, D), as the layer's gradient mode does."""
        mode: object = self.bptt  # which anybody may have set
        if not isinstance(mode, Mode):
            expected = "a mode of elman.bptt, Truncated(20) perhaps"
            raise TypeError(f"{type(self).__name__}: bptt: expected {expected}, got {mode!r:.60}")
        return mode.run(cell, parameters, x, state, self.executor)

    def _leave(self, input: Tensor, outputs: Output, states: tuple[Tensor, ...]) -> tuple[Any, tuple[Tensor, ...]]:
        """Outputs and states in the layout that the input came in."""
        if input.dim() == 2:
            states = tuple(state.squeeze(-2) for state in states)
        if isinstance(outputs, dict):
            return {name: self._laid_out(input, value) for name, value in outputs.items()}, states
        return self._laid_out(input, outputs), states

    def _laid_out(self, input: Tensor, values: Tensor) -> Tensor:
        if input.dim() == 2:
            return values.squeeze(1)
        return values.transpose(0, 1) if self.batch_first else values


def _shape(state: Any) -> tuple[int, ...] | str:
    return tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
