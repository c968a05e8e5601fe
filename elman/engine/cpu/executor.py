"""The executor `native`: compiles a cell for this machine's CPU. The compiler is imported by the first call."""

import os
from collections.abc import Iterator, Sequence

from torch import Tensor

from elman.engine.executor import Executor, PreparedStep, Unsupported
from elman.engine.inputs import CellSpec, Inputs
from elman.engine.outputs import Output, State


class NativeExecutor(Executor):
    """LLVM kernels by llvmlite, float32 and float64."""

    name = "native"

    @property
    def available(self) -> bool:
        """Not in an environment with ELMAN_NATIVE=0."""
        return os.environ.get("ELMAN_NATIVE") != "0"

    def run(self, inputs: Inputs) -> tuple[Output, State] | Unsupported:
        """As of every executor. What only torch can differentiate (forward mode, torch.func) runs on the loop."""
        from elman.engine.cpu.entry import run

        return run(inputs)

    def unsupported(self, spec: CellSpec) -> str:
        """A dtype, a device, or an operation that is not in the table."""
        from elman.engine.cpu.entry import unsupported

        return unsupported(spec)

    def describe(self, spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
        """The stages of the plan, and what is saved for backward."""
        from elman.engine.cpu.description import describe

        return describe(spec, shape)

    def prepare_step(self, specs: Sequence[CellSpec], x: Tensor, gradients: bool) -> PreparedStep | None:
        """A step whose buffers stay where they are; none where threads would share it."""
        from elman.engine.cpu.prepared_step import prepare_step

        return prepare_step(specs, x, gradients)
