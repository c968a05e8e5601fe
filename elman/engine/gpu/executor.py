"""The executor `triton`: runs any cell that can be captured on a CUDA device. Triton is imported by the first call."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import torch

from elman.engine.executor import Executor, Unsupported
from elman.engine.inputs import CellSpec, Inputs
from elman.engine.outputs import Output, State


class TritonExecutor(Executor):
    """Kernels generated for Triton, for float32, float64, bfloat16 and float16."""

    name = "triton"

    @property
    def unavailable(self) -> str:
        """Why this process has no Triton or no CUDA device; "" if it has both, or TRITON_INTERPRET is 1."""
        if find_spec("triton") is None:
            return "the package triton is not installed (on Linux: pip install triton)"
        # Counting devices, unlike asking whether CUDA is available, lets the process fork.
        if os.environ.get("TRITON_INTERPRET") != "1" and torch.cuda.device_count() == 0:
            return "there is no CUDA device"
        return ""

    def run(self, inputs: Inputs) -> tuple[Output, State] | Unsupported:
        """Run a cell over a sequence; what cannot be compiled by its nature (torch.func, export) runs on the loop."""
        from elman.engine.compiled.entry import run
        from elman.engine.gpu.backend import TRITON

        return run(inputs, TRITON)

    def unsupported(self, spec: CellSpec) -> str:
        """Return the dtype, device or operation that it does not support; "" if there is none."""
        from elman.engine.compiled.entry import unsupported
        from elman.engine.gpu.backend import TRITON

        return unsupported(spec, TRITON)

    def describe(self, spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
        """Yield the stages of the plan, the tensors saved for backward and the file of the kernels."""
        from elman.engine.gpu.description import describe

        return describe(spec, shape)
