"""The engine's one door: a cell, its parameters, a sequence and a state in; outputs and the last state out.

An executor is a function with the signature of `loop.run`. `loop` is plain torch and the definition of correct;
others join it as lines of `EXECUTORS`.
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from elman.through_time import loop
from elman.through_time.loop import State

__all__ = ["EXECUTORS", "State", "known_executor", "run"]

Executor = Callable[[nn.Module, Mapping[str, Tensor], Tensor, State], tuple[Tensor, State]]

EXECUTORS: dict[str, Executor] = {"loop": loop.run}


def run(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, executor: str = "auto"
) -> tuple[Tensor, State]:
    """Run a cell over a sequence.

    Args:
        cell: `cell(x_t, state) -> state` for one step.
        parameters: the cell's parameters and buffers by name; the cell's own values are not looked at.
        x: (T, B, D) with T >= 1.
        state: at t = 0, in the form the cell takes: a tensor (B, H) or a tuple of tensors.
        executor: a name in `EXECUTORS`, which runs or raises; "auto" may choose.

    Returns:
        The first state of every step, (T, B, H), and the whole state after the last.

    Raises:
        ValueError: for an unknown executor.
    """
    chosen = "loop" if known_executor(executor) == "auto" else executor
    return EXECUTORS[chosen](cell, parameters, x, state)


def known_executor(name: str) -> str:
    """The name itself, if it is "auto" or a name in `EXECUTORS`.

    Raises:
        ValueError: if it is neither.
    """
    if name != "auto" and name not in EXECUTORS:
        raise ValueError(f"executor: expected 'auto' or one of {', '.join(EXECUTORS)}, got {name!r}")
    return name
