"""Plans and prepared calls for bfloat16: convert what comes and goes; memory is float32, see `bfloat16.py`."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from elman.engine.compiled.backend import CompiledLoop
from elman.engine.compiled.records import BackwardInputs, Cotangents, Forward, PlanInputs
from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.executor import Labels, PreparedCall


class HalfPlan(CompiledLoop):
    """Runs a plan for tensors in half precision.

    Args:
        compiled: the plan, with memory in single precision.
        dtype: of inputs, parameters, results and gradients.
    """

    def __init__(self, compiled: CompiledPlan, dtype: torch.dtype) -> None:
        self.plan, self._compiled, self._dtype = compiled.plan, compiled, dtype

    @override
    def forward(self, inputs: PlanInputs, save: bool) -> Forward:
        outputs, finals, saved = self._compiled.forward(self._widened(inputs), save)
        if save and self.plan.sequences[0]:
            saved = [saved[0], outputs, *saved[1:]]
        return Forward(outputs.to(self._dtype), [final.to(self._dtype) for final in finals], saved)

    @override
    def backward(
        self, call_inputs: BackwardInputs, arriving: Sequence[Tensor] = ()
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
        (dy, d_finals), inputs, outputs, saved, wanted = call_inputs
        if self.plan.sequences[0]:
            outputs, saved = saved[1], [saved[0], *saved[2:]]
        cotangents = Cotangents(self._widen(dy), [self._widen(d) for d in d_finals])
        call = BackwardInputs(cotangents, self._widened(inputs), outputs, saved, wanted)
        wide = [gradient.to(self._compiled.dtype) for gradient in arriving]
        dx, d_states, d_parameters = self._compiled.backward(call, wide)
        for narrow, gradient in zip(arriving, wide, strict=True):
            narrow.copy_(gradient)
        return (
            dx if dx is None else dx.to(self._dtype),
            [d.to(self._dtype) for d in d_states],
            [d if d is None else d.to(self._dtype) for d in d_parameters],
        )

    def _widened(self, inputs: PlanInputs) -> PlanInputs:
        dtype = self._compiled.dtype
        states, parameters, draws = (
            [value.to(dtype) for value in values] for values in (inputs.states, inputs.parameters, inputs.draws)
        )
        return PlanInputs(inputs.x.to(dtype), states, parameters, draws, inputs.sizes)

    def _widen(self, cotangent: Tensor | None) -> Tensor | None:
        return cotangent if cotangent is None else cotangent.to(self._compiled.dtype)


class HalfCall:
    """Prepared calls for tensors in half precision; see `PreparedCall`.

    Args:
        prepared: the calls in single precision.
        dtype: of inputs, parameters and results.
    """

    def __init__(self, prepared: PreparedCall, dtype: torch.dtype) -> None:
        self._prepared, self._dtype = prepared, dtype
        self._wide: tuple[list[Tensor], Tensor, list[Tensor]] | None = None

    def fits(self, parameters: Sequence[Tensor], x: Tensor, states: Sequence[Tensor]) -> bool:
        """Return True if the call can run with these tensors, which it converts."""
        if any(tensor.dtype is not self._dtype for tensor in (x, *parameters, *states)):
            return False
        self._wide = [p.float() for p in parameters], x.float(), [state.float() for state in states]
        return self._prepared.fits(*self._wide)

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int], lengths: NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Run the call with the tensors that `fits` has converted."""
        del x, states, parameters
        assert self._wide is not None
        (wide_parameters, wide_x, wide_states), self._wide = self._wide, None
        outputs, finals = self._prepared(labels, wide_x, wide_states, wide_parameters, shape, lengths)
        return outputs.to(self._dtype), [final.to(self._dtype) for final in finals]
