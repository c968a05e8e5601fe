"""The backend of the executor `native`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from elman.engine.compiled.backend import Backend, CompiledLoop
from elman.engine.compiled.plan_cache import compiled_plan
from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.cpu.half_plan import HalfPlan
from elman.engine.plan.planner import Plan
from elman.engine.precision import autocast_dtype


class NativeBackend(Backend):
    """Compiles plans to machine code for this machine's CPU.

    Args:
        rounds: products of float32 round their factors to bfloat16, as under autocast.
    """

    name = "native"
    device_type = "cpu"
    dtypes = (torch.float32, torch.float64, torch.bfloat16)

    def __init__(self, rounds: bool = False) -> None:
        self.variant = "-bfloat16" if rounds else ""

    def unsupported(self, tensors: Sequence[Tensor]) -> str:
        """Return why it cannot compute with tensors like these; "" if it can."""
        for tensor in tensors:
            if not tensor.is_cpu:
                return f"the native executor supports CPU tensors only, got a tensor on {tensor.device}"
            if tensor.layout != torch.strided or tensor.dtype not in self.dtypes or tensor.dtype != tensors[0].dtype:
                return self._unsupported_kind(tensor, tensors[0])
        return ""

    def state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype of states and of what is saved: at least single precision."""
        return torch.float32 if dtype == torch.bfloat16 else dtype

    saved_dtype = state_dtype

    def compile(self, plan: Plan, key: str, dtype: torch.dtype) -> CompiledLoop:
        """Compile a plan."""
        rounds = dtype == torch.bfloat16 or (dtype == torch.float32 and bool(self.variant))
        # Layers in bfloat16 and layers under autocast run the same code, so its key has no variant.
        code_key = self.name + key.removeprefix(self.name + self.variant)
        compiled = CompiledPlan(plan, code_key, torch.bfloat16 if rounds else dtype)
        return HalfPlan(compiled, dtype) if dtype == torch.bfloat16 else compiled


NATIVE, ROUNDING = NativeBackend(), NativeBackend(rounds=True)


def present_backend() -> NativeBackend:
    """Return the backend for the present autocast state."""
    return ROUNDING if autocast_dtype("cpu") == torch.bfloat16 else NATIVE


def compiled_for(key: str, dtype: torch.dtype) -> CompiledPlan:
    """The compiled plan of a key of this backend."""
    compiled = compiled_plan(key, dtype)
    assert isinstance(compiled, CompiledPlan)
    return compiled
