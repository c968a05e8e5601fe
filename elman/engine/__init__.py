"""The engine: runs a cell over a sequence.

Executors run it: `EXECUTORS` has them in the order in which `auto` tries them. The last is `loop`, plain PyTorch, which
can run everything and is the definition of correct.
"""

import inspect
import warnings
import weakref
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from elman.engine.cpu.executor import NativeExecutor
from elman.engine.eager import EagerExecutor
from elman.engine.executor import Executor, StackInputs, Unsupported
from elman.engine.gpu.executor import TritonExecutor
from elman.engine.inputs import CellSpec, Inputs
from elman.engine.named import named
from elman.engine.outputs import Output, State, as_tuple
from elman.engine.torch_native import TorchExecutor

__all__ = [
    "EXECUTORS",
    "UNAVAILABLE",
    "CellSpec",
    "Executor",
    "Inputs",
    "Output",
    "StackInputs",
    "State",
    "Unsupported",
    "as_tuple",
    "choose",
    "known_executor",
    "named",
    "run",
    "stack_executor",
]

# A new executor is an entry here. Those for CUDA and for the CPU refuse tensors of each other's.
_INSTALLED: tuple[Executor, ...] = (NativeExecutor(), TorchExecutor(), TritonExecutor(), EagerExecutor())
#: by name, the preferred first
EXECUTORS: dict[str, Executor] = {executor.name: executor for executor in _INSTALLED if not executor.unavailable}
#: why the others cannot run in this process, by name
UNAVAILABLE: dict[str, str] = {executor.name: executor.unavailable for executor in _INSTALLED if executor.unavailable}
_warned: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def run(inputs: Inputs, executor: str = "auto") -> tuple[Output, State]:
    """Run a cell over a sequence.

    Args:
        inputs: the cell, its parameters, the sequence and the initial state.
        executor: a name in `EXECUTORS`, which runs or raises; "auto" is the first that can run this.

    Returns:
        The outputs of all steps, (T, B, ...), or (N, ...), and the state after the last of each sequence. Where a step
        has no output, they are the first of its states.

    Raises:
        ValueError: for an unknown executor.
        RuntimeError: if the executor asked for cannot run this.

    >>> cell = nn.GRUCell(3, 5)
    >>> inputs = Inputs(cell, dict(cell.named_parameters()), torch.randn(7, 2, 3), torch.zeros(2, 5))
    >>> outputs, h = run(inputs)
    >>> outputs.shape, h.shape
    (torch.Size([7, 2, 5]), torch.Size([2, 5]))
    """
    refusals: list[Unsupported] = []
    for candidate in _candidates(executor):
        result = candidate.run(inputs)
        if isinstance(result, Unsupported):
            refusals.append(result)
            continue
        reasons = [refusal.reason for refusal in refusals if refusal.warn]
        if reasons and not torch.compiler.is_compiling():
            _warn_once(inputs.cell, f"{reasons[0]}; it runs on the {candidate.name} executor, which is slower")
        return result
    raise RuntimeError(f"{refusals[0].reason}; use executor='auto'")


def stack_executor(name: str, like: Tensor) -> Executor | None:
    """Return the executor to ask to run all layers of a stack at once.

    Args:
        name: as in `run`.
        like: a parameter.

    Returns:
        The executor; None if the cells have to be run one by one, as the first executor for such tensors does.

    >>> stack_executor("loop", torch.zeros(3)) is None
    True
    """
    for candidate in _candidates(name):
        if candidate.runs_stacks:
            return candidate
        if candidate.supports(like):
            return None
    return None


def choose(name: str, specs: Sequence[CellSpec]) -> tuple[Executor, str]:
    """Choose the executor that runs the cells of a layer.

    Args:
        name: as in `run`. An executor requested by name is chosen even if it will raise.
        specs: the cells.

    Returns:
        The executor, and why the one before it, or the one asked for, cannot run the cells; "" if it can.

    Raises:
        ValueError: for an unknown executor.

    >>> cell = nn.GRUCell(3, 5)
    >>> choose("loop", [CellSpec(cell, dict(cell.named_parameters()), 3, 5)])
    (<executor 'loop'>, '')
    """
    reason = ""
    for executor in _candidates(name):
        refusal = next(filter(None, map(executor.unsupported, specs)), "")
        if not refusal:
            return executor, reason
        if executor.any_cell or not reason:
            reason = refusal
    return executor, reason


def _candidates(name: str) -> Collection[Executor]:
    """The executors to try, in order: the one of that name, or all for "auto"."""
    return EXECUTORS.values() if name == "auto" else (EXECUTORS[known_executor(name)],)


def known_executor(name: str) -> str:
    """Return the name if it is "auto" or a name in `EXECUTORS`.

    Args:
        name: the name of an executor.

    Raises:
        ValueError: for any other name.

    >>> known_executor("loop")
    'loop'
    """
    if name in UNAVAILABLE:
        raise ValueError(f"executor: {name!r} is not available, since {UNAVAILABLE[name]}; use executor='auto'")
    if name != "auto" and name not in EXECUTORS:
        others = "".join(f"; {other!r} is not available, since {reason}" for other, reason in UNAVAILABLE.items())
        raise ValueError(f"executor: expected 'auto' or one of {', '.join(EXECUTORS)}, got {name!r}{others}")
    return name


def _warn_once(cell: nn.Module, text: str) -> None:
    """Warn once for each cell that it runs slower than it could."""
    if cell not in _warned:
        _warned.add(cell)
        # Attributed to the cell's code: every caller is a line of torch.
        code = getattr(inspect.unwrap(type(cell).forward), "__code__", None)
        if code is None:
            warnings.warn(text, stacklevel=3)
        else:
            warnings.warn_explicit(text, UserWarning, code.co_filename, code.co_firstlineno)
