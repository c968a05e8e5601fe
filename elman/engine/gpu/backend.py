"""The backend of the executor `triton`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from elman.engine.compiled.backend import Backend
from elman.engine.compiled.description import describe_plan
from elman.engine.gpu.functions import INTERPRETED
from elman.engine.gpu.pass_writer import ROWS
from elman.engine.gpu.triton_plan import TritonPlan, real_dtype
from elman.engine.plan.ir import Product
from elman.engine.plan.planner import Plan
from elman.engine.trace.errors import CannotCapture

MAX_OFFSET = 2**31 - 1


class TritonBackend(Backend):
    """Compiles plans to Triton kernels, for CUDA devices; under Triton's interpreter, for tensors of the CPU."""

    name = "triton"
    device_type = "cpu" if INTERPRETED else "cuda"
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

    def unsupported(self, tensors: Sequence[Tensor]) -> str:
        """Return why it cannot compute with tensors like these; "" if it can."""
        for tensor in tensors:
            if tensor.device.type != self.device_type:
                kind = "CPU tensors only under Triton's interpreter" if INTERPRETED else "CUDA tensors only"
                return f"the triton executor supports {kind}, got a tensor on {tensor.device}"
            if tensor.device != tensors[0].device:
                devices = f"{tensors[0].device} and {tensor.device}"
                return f"the triton executor expected all tensors on one device, got {devices}"
            if reason := self._unsupported_kind(tensor, tensors[0]):
                return reason
        return ""

    def autocast_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype to compute in under autocast: that of autocast, except for double precision."""
        return torch.get_autocast_dtype(self.device_type) if dtype == torch.float32 else dtype

    def state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype in which the loop keeps its states: at least single precision."""
        return real_dtype(dtype)

    def check(self, plan: Plan) -> None:
        """Raise `CannotCapture` if offsets within a matrix, or within the rows of a program, exceed 32 bits."""
        programs = (plan.before, plan.inference, plan.forward, plan.backward, plan.after)
        for stage in (stage for program in programs for stage in program.stages):
            if isinstance(stage, Product) and stage.depth * stage.width > MAX_OFFSET:
                raise CannotCapture(f"a matrix of {stage.depth} x {stage.width} numbers")
        widest = max((buffer.width for program in programs for buffer in program.buffers()), default=0)
        if widest * ROWS > MAX_OFFSET:
            raise CannotCapture(f"rows of {widest} numbers")

    def compile(self, plan: Plan, key: str, dtype: torch.dtype) -> TritonPlan:
        """Generate the kernels of a plan; Triton compiles each when it is first launched."""
        return TritonPlan(plan, key, dtype, self.device_type, "\n".join(describe_plan(plan, dtype)))


TRITON = TritonBackend()
