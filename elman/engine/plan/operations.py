"""The pointwise operations and reductions that plans consist of.

Each backend has a table with an entry for each of them: `cpu.lowering` for LLVM, `gpu.lowering` for Triton,
`export.c_lowering` for C. To add an operation, add it here and to those tables. An operation that is a formula in these
belongs in `trace.decompositions`; matrix products are in `plan.domains`, arrangements of columns in `plan.layout`.
"""

from math import inf
from typing import Any

import torch

aten = torch.ops.aten

COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")

#: operations on elements; conditions are numbers, 1 and 0
POINTWISE = {
    aten.add.Tensor,
    aten.add.Scalar,
    aten.sub.Tensor,
    aten.sub.Scalar,
    aten.rsub.Scalar,
    aten.mul.Tensor,
    aten.mul.Scalar,
    aten.div.Tensor,
    aten.div.Scalar,
    aten.neg.default,
    aten.reciprocal.default,
    aten.tanh.default,
    aten.sigmoid.default,
    aten.relu.default,
    aten.tanh_backward.default,
    aten.sigmoid_backward.default,
    aten.threshold_backward.default,
    aten.exp.default,
    aten.expm1.default,
    aten.log.default,
    aten.log1p.default,
    aten.sqrt.default,
    aten.rsqrt.default,
    aten.pow.Tensor_Scalar,
    aten.pow.Tensor_Tensor,
    aten.abs.default,
    aten.sign.default,
    aten.sgn.default,
    aten.floor.default,
    aten.ceil.default,
    aten.round.default,
    aten.trunc.default,
    aten.sin.default,
    aten.cos.default,
    aten.atan.default,
    aten.sinh.default,
    aten.cosh.default,
    aten.erf.default,
    aten.clamp.default,
    aten.clamp.Tensor,
    aten.clamp_min.default,
    aten.clamp_max.default,
    aten.maximum.default,
    aten.minimum.default,
    aten.where.self,
    aten.masked_fill.Scalar,
    aten.masked_fill.Tensor,
    aten.isnan.default,
    aten.logical_and.default,
    aten.bitwise_and.Tensor,
    aten.logical_or.default,
    aten.bitwise_or.Tensor,
    aten.logical_xor.default,
    aten.bitwise_xor.Tensor,
    aten.logical_not.default,
    aten.bitwise_not.default,
    aten.expand.default,
    aten.to.dtype,
    *(getattr(getattr(aten, name), kind) for name in COMPARISONS for kind in ("Tensor", "Scalar")),
}

#: operations that take longer to recompute than their result takes to load, so it is worth saving for backward
SLOW = {
    aten.tanh.default, aten.sigmoid.default, aten.exp.default, aten.expm1.default, aten.log.default,
    aten.log1p.default, aten.sin.default, aten.cos.default, aten.atan.default, aten.sinh.default, aten.cosh.default,
    aten.erf.default, aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor,
}  # fmt: skip

#: reductions over the columns of a row, with their identity elements
REDUCTIONS: dict[Any, float] = {aten.sum.dim_IntList: 0.0, aten.amax.default: -inf, aten.amin.default: inf}
