"""The backend of the executor `native`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from elman.engine.compiled.backend import Backend
from elman.engine.compiled.plan_cache import compiled_plan
from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.plan.planner import Plan


class NativeBackend(Backend):
    """Compiles plans to machine code for this machine's CPU."""

    name = "native"
    device_type = "cpu"
    dtypes = (torch.float32, torch.float64)

    def unsupported(self, tensors: Sequence[Tensor]) -> str:
        """Return why it cannot compute with tensors like these; "" if it can."""
        for tensor in tensors:
            if not tensor.is_cpu:
                return f"the native executor supports CPU tensors only, got a tensor on {tensor.device}"
            if tensor.layout != torch.strided or tensor.dtype not in self.dtypes or tensor.dtype != tensors[0].dtype:
                return self._unsupported_kind(tensor, tensors[0])
        return ""

    def compile(self, plan: Plan, key: str, dtype: torch.dtype) -> CompiledPlan:
        """Compile a plan."""
        return CompiledPlan(plan, key, dtype)


NATIVE = NativeBackend()


def compiled_for(key: str, dtype: torch.dtype) -> CompiledPlan:
    """The compiled plan of a key of this backend."""
    compiled = compiled_plan(key, dtype)
    assert isinstance(compiled, CompiledPlan)
    return compiled
