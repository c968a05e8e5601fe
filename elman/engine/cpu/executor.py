"""The executor `native`: compiles a cell for this machine's CPU. The compiler is imported by the first call."""

import os
from collections.abc import Iterator, Sequence

from torch import Tensor

from elman.engine.executor import Executor, PreparedCall, Unsupported
from elman.engine.inputs import CellSpec, Inputs
from elman.engine.outputs import Output, State


class NativeExecutor(Executor):
    """Kernels compiled by LLVM (llvmlite), for float32, float64 and bfloat16."""

    name = "native"

    @property
    def unavailable(self) -> str:
        """The environment variable ELMAN_NATIVE if it is 0; "" otherwise."""
        return "the environment variable ELMAN_NATIVE is 0" if os.environ.get("ELMAN_NATIVE") == "0" else ""

    def run(self, inputs: Inputs) -> tuple[Output, State] | Unsupported:
        """Run a cell over a sequence; what cannot be compiled by its nature (torch.func, export) runs on the loop."""
        from elman.engine.compiled.entry import run
        from elman.engine.cpu.backend import present_backend

        return run(inputs, present_backend())

    def supports(self, like: Tensor) -> bool:
        """Return True for tensors of the CPU in float32, float64 or bfloat16."""
        from elman.engine.cpu.backend import NATIVE

        return not NATIVE.unsupported((like,))

    def unsupported(self, spec: CellSpec) -> str:
        """Return the dtype, device or operation that it does not support; "" if there is none."""
        from elman.engine.compiled.entry import unsupported
        from elman.engine.cpu.backend import NATIVE

        return unsupported(spec, NATIVE)

    def describe(self, spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
        """Yield the stages of the plan and the tensors saved for backward."""
        from elman.engine.cpu.description import describe

        return describe(spec, shape)

    def prepare(
        self, specs: Sequence[CellSpec], x: Tensor, lead: tuple[int, ...], gradients: bool, directions: int = 1
    ) -> PreparedCall | None:
        """Prepare a small call, with buffers of its own; None if it needs more than addresses."""
        from elman.engine.cpu.prepared_call import prepare

        return prepare(specs, x, lead, gradients, directions)
