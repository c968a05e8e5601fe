"""The engine's one door: a cell, its parameters, a sequence and a state in; outputs and the last state out.

An executor is a function with the signature of `loop.run`. `loop` is plain torch and the definition of correct;
`native` compiles the cell for this machine's CPU; in an environment with ELMAN_NATIVE=0, it is not there.
"""

import os
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from elman.engine import eager
from elman.engine.eager import as_tuple
from elman.engine.named import named
from elman.engine.outputs import Output, State

__all__ = ["EXECUTORS", "Output", "State", "as_tuple", "known_executor", "named", "run"]

Executor = Callable[[nn.Module, Mapping[str, Tensor], Tensor, State, Tensor | None], tuple[Output, State]]


def _native(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, sizes: Tensor | None
) -> tuple[Output, State]:
    from elman.engine.cpu.entry import run

    return run(cell, parameters, x, state, sizes)


def _auto(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, sizes: Tensor | None
) -> tuple[Output, State]:
    from elman.engine.cpu.entry import run

    return run(cell, parameters, x, state, sizes, strict=False)


EXECUTORS: dict[str, Executor] = {"loop": eager.run, "native": _native}
if os.environ.get("ELMAN_NATIVE") == "0":
    del EXECUTORS["native"]


def run(
    cell: nn.Module,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    state: State,
    executor: str = "auto",
    sizes: Tensor | None = None,
) -> tuple[Output, State]:
    """Run a cell over a sequence.

    Args:
        cell: `cell(x_t, state)` for one step, which returns the state, or (output, state) with a tensor (B, ...) or a
            dictionary of such for the output.
        parameters: the cell's parameters and buffers by name; the cell's own values are not looked at.
        x: (T, B, D) with T >= 1; or, with `sizes`, (N, D): sequences of several lengths, packed.
        state: at t = 0, in the form the cell takes: a tensor (B, H) or a tuple of tensors.
        executor: a name in `EXECUTORS`, which runs or raises; "auto" is native where that can run, else loop.
        sizes: of packed sequences, (T,), on the CPU: how many of them have a step t, as `batch_sizes` of torch's
            PackedSequence. The longest come first, and x has the rows of step 0, then those of step 1, and so on, N in
            all; sizes[0], which is at least 1, may be less than B, for sequences without a step.

    Returns:
        The outputs of all steps, (T, B, ...), or (N, ...), and the state after the last of each sequence. Where a step
        has none, they are the first of its states.

    Raises:
        ValueError: for an unknown executor.
        RuntimeError: if the executor asked for cannot run this.
    """
    auto = _auto if "native" in EXECUTORS else eager.run
    chosen = auto if known_executor(executor) == "auto" else EXECUTORS[executor]
    return chosen(cell, parameters, x, state, sizes)


def known_executor(name: str) -> str:
    """The name itself, if it is "auto" or a name in `EXECUTORS`.

    Raises:
        ValueError: if it is neither.
    """
    if name != "auto" and name not in EXECUTORS:
        raise ValueError(f"executor: expected 'auto' or one of {', '.join(EXECUTORS)}, got {name!r}")
    return name
